"""ChildProcess: the parent's handle of one child."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from hookline import errors
from hookline.errors import EngineDeadError
from hookline.messages.control import ProcessFailed, ProcessReady
from hookline.processes.lifeline import ChildLaunch, ParentLifeline

logger = logging.getLogger(__name__)

#: Seconds that a dead child's last words may take to arrive.
_LAST_WORDS_SECONDS = 0.5


class ChildProcess:
    """Started at once; told later what to run."""

    def __init__(self, name: str, *, preload: Sequence[str] = ()) -> None:
        """``preload`` names modules that the child imports while it waits."""
        self.name = name
        mine, childs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "hookline.processes.child", "--name", name]
        command += ["--lifeline", str(childs.fileno()), "--parent", str(os.getpid())]
        for module in preload:
            command += ["--preload", module]
        # The child must see the packages that this process sees, however they came onto its path.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        with childs:
            self._process = subprocess.Popen(
                command, pass_fds=[childs.fileno()], env=environment, stdin=subprocess.DEVNULL
            )
        self._lifeline = ParentLifeline(mine)
        self._ready: asyncio.Future[dict[str, Any]] | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def launch(self, launch: ChildLaunch) -> None:
        """Send what to run."""
        self._lifeline.launch(launch)

    async def ready(self) -> dict[str, Any]:
        """Wait until the child is ready; gives what it reports of itself. Needs ``watch`` to run.

        Raises ``EngineDeadError`` when the child ends before.
        """
        return await asyncio.shield(self._ready_future())

    async def watch(self) -> str:
        """Wait until the child ends, and say why in one sentence. Call once, after ``launch``."""
        reports = asyncio.create_task(self._read_reports())
        code = await self._exit_code()
        # Normally the line has ended too; a grandchild may hold it open.
        await asyncio.wait([reports], timeout=_LAST_WORDS_SECONDS)
        if reports.done():
            failure = reports.result()
        else:
            reports.cancel()
            failure = None
        cause = self._cause(code, failure)
        if not self._ready_future().done():
            self._ready_future().set_exception(EngineDeadError(cause))
            # Nobody may be waiting for it.
            self._ready_future().exception()
        return cause

    def hang_up(self) -> None:
        """Have the child exit by itself, at once."""
        self._lifeline.hang_up()

    def wait(self, timeout: float) -> bool:
        """Block up to ``timeout`` seconds until the child has ended; says whether it has."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the child now, if it still runs, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._lifeline.close()

    async def _read_reports(self) -> ProcessFailed | None:
        failure: ProcessFailed | None = None
        while (report := await self._lifeline.next_report()) is not None:
            if isinstance(report, ProcessReady):
                if not self._ready_future().done():
                    self._ready_future().set_result(report.info)
            else:
                failure = report
        return failure

    async def _exit_code(self) -> int:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()

        def wait() -> None:
            code = self._process.wait()
            # The loop may be closed by now, when the server ended first.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_set, ended, code)

        threading.Thread(target=wait, name=f"wait-{self.name}", daemon=True).start()
        return await ended

    def _ready_future(self) -> asyncio.Future[dict[str, Any]]:
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
        return self._ready

    def _cause(self, code: int, failure: ProcessFailed | None) -> str:
        if failure is not None:
            # Errors that we raise on purpose explain themselves; of all others the place matters.
            is_ours = hasattr(errors, failure.error_type)
            level = logging.DEBUG if is_ours else logging.ERROR
            logger.log(level, "traceback of the %s process:\n%s", self.name, failure.traceback.rstrip())
            what = "" if is_ours else f"{failure.error_type}: "
            return f"the {self.name} process failed: {what}{failure.message}"
        what = f"the {self.name} process (pid {self.pid})"
        if code >= 0:
            return f"{what} ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        hint = "; the system may be out of memory" if name == "SIGKILL" else ""
        return f"{what} was killed by signal {-code} ({name}){hint}"


def _set(future: asyncio.Future[int], value: int) -> None:
    if not future.done():
        future.set_result(value)
