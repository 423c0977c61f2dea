"""``hookline serve`` as a user runs it: the command, its output, and its end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

_ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0


def hookline(*arguments: str, timeout: float = _PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "hookline", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=_environment(),
        check=False,
    )


class RunningServer:
    """A server that was started with the command line."""

    def __init__(
        self,
        logs: Path,
        arguments: Sequence[str] = (),
        *,
        program: Sequence[str] = (sys.executable, "-m", "hookline"),
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._out, self._err = logs / "stdout", logs / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*program, "serve", "--port", "0", *arguments],
                stdout=out,
                stderr=err,
                env=_environment() if environment is None else dict(environment),
                start_new_session=True,
                cwd=cwd,
            )
        deadline = time.monotonic() + _PATIENCE
        while "Try:" not in self.stdout:
            assert self.process.poll() is None, self.stderr
            assert time.monotonic() < deadline, f"not ready: {self.stderr}"
            time.sleep(0.05)
        self.url = next(word for word in self.stdout.split() if word.startswith("http://"))

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def children(self) -> list[psutil.Process]:
        """All processes below the server's main one."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def close(self) -> None:
        """End everything that may be left."""
        if self.process.poll() is None:
            for process in [psutil.Process(self.process.pid), *self.children()]:
                # Children end with their parent, and may be quicker.
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(_PATIENCE)


def _environment() -> dict[str, str]:
    """The source tree counts as installed, so that the test sees this checkout whatever is installed."""
    paths = os.pathsep.join([str(_ROOT / "core"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": paths, "HOOKLINE_SOURCE_TREE": str(_ROOT / "plugins")}
