"""GrammarMaker: where grammars are compiled. In killable processes, or, unprotected, in the scheduler's own."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from hookline.errors import RequestError
from hookline.scheduler.grammar_host import (
    CompileAnswer,
    CompileOrder,
    HostSetup,
    receive_frame,
    send_frame,
)

if TYPE_CHECKING:
    from hookline.interfaces.grammar import CompiledGrammar
    from hookline.scheduler.grammar_chain import BackendChain

log = logging.getLogger(__name__)

#: Seconds that the host may take to make its backends: a vocabulary of 150,000 tokens and a cold disk.
_START_SECONDS = 180.0
#: Seconds that the host may take to end once its control socket is closed.
_END_SECONDS = 2.0
#: Seconds that a host's end may take to show, after that of a socket.
_NOTICE_SECONDS = 0.2
#: Seconds between two looks at whether the host lives.
_WATCH_SECONDS = 0.5
#: Bytes of an answer besides the packed grammar.
_FRAME_BYTES = 1 << 16
#: One thread at most in the host, and no device: its forks must be whole, and small.
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}

#: Called by ``make`` with a function that gives the compilation up, from any thread.
OnStart = Callable[[Callable[[], None]], None]


class GrammarMaker(ABC):
    """Makes grammars. Used from several compiling threads at once."""

    #: Seconds that ``make`` may take beyond ``grammar.grammar_timeout``, which it keeps itself if this is not 0.
    grace: float = 0.0

    @abstractmethod
    def prepare(self) -> None:
        """Get ready, which may take seconds; returns at once if it is. ``RequestError`` if it cannot be."""

    @abstractmethod
    def make(self, kind: str, source: str, on_start: OnStart) -> CompiledGrammar:
        """Compile. Raises ``RequestError`` for whatever is wrong with the grammar."""

    def close(self) -> None:  # noqa: B027 - optional
        """Free what it holds; nothing is made afterwards."""


class LocalMaker(GrammarMaker):
    """Compiles in the calling thread: nothing stops a grammar that runs away."""

    def __init__(self, chain: BackendChain) -> None:
        self._chain = chain
        self._lock = threading.Lock()

    def prepare(self) -> None:
        with self._lock:
            self._chain.prepare()

    def make(self, kind: str, source: str, on_start: OnStart) -> CompiledGrammar:
        return self._chain.compile(kind, source)[1]


class HostedMaker(GrammarMaker):
    """Compiles in forks of a host process, and unpacks the result in the calling thread."""

    # Unpacking is linear in what was compiled, or compiles once more what was compiled in time.
    grace = 30.0

    def __init__(self, chain: BackendChain, setup: HostSetup, *, start_seconds: float = _START_SECONDS) -> None:
        """``chain``: the same backends as those of ``setup``, for unpacking."""
        self._chain = chain
        self._setup = setup
        self._start_seconds = start_seconds
        self._lock = threading.Lock()
        self._host: _Host | None = None
        self._is_closed = False

    @property
    def host_pid(self) -> int | None:
        """Process id of the host, once there is one."""
        return None if self._host is None else self._host.pid

    def prepare(self) -> None:
        with self._lock:
            if self._is_closed:
                raise RequestError("the engine is shutting down", code="shutting_down", status_code=503)
            if self._host is not None and self._host.is_alive:
                return
            self._host = None
            host = _Host(self._setup)
            # The host reads its vocabulary in the meantime.
            self._chain.prepare()
            host.await_ready(self._start_seconds)
            self._host = host
            # Should it be killed, the next request must not wait for another one to read the vocabulary.
            watched = (weakref.ref(self), weakref.ref(host))
            threading.Thread(target=_watch, args=watched, name="grammar-host-watch", daemon=True).start()

    def make(self, kind: str, source: str, on_start: OnStart) -> CompiledGrammar:
        answer = self._ask(kind, source, on_start)
        if answer.is_failure:
            message = answer.message if kind in answer.message else f"{kind}: {answer.message}"
            raise RequestError(
                message, param=answer.param or kind, code=answer.code or None, status_code=answer.status_code
            )
        return self._chain.unpack(answer.backend, kind, source, answer.packed)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._host is not None:
                self._host.close()

    def _ask(self, kind: str, source: str, on_start: OnStart) -> CompileAnswer:
        # The host never reads what clients write. Should it end all the same, for lack of memory say, another is
        # started, and the grammar tried once more.
        for _ in range(2):
            host = self._host
            assert host is not None, "prepare first"
            answer = host.compile(CompileOrder(kind, source), on_start)
            if answer is not None:
                return answer
            self.prepare()
        raise RequestError(
            f"{kind} could not be compiled: the compiling process ended", code="internal_error", status_code=500
        )


class _Host:
    """One host process and its control socket."""

    def __init__(self, setup: HostSetup) -> None:
        self._setup = setup
        self._control, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "hookline.scheduler.grammar_host", "--control", str(theirs.fileno())]
        # It must see the packages that this process sees, however they came onto its path.
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with theirs:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
            )
        self._process = process
        # Also when nobody closes it: at the end of the program, or of the last reference.
        self._end = weakref.finalize(self, _end, process, self._control)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def was_closed(self) -> bool:
        """Whether it was ended on purpose, or with the program."""
        return not self._end.alive

    @property
    def is_alive(self) -> bool:
        return self._end.alive and self._process.poll() is None

    def await_ready(self, seconds: float) -> None:
        """Send the set-up and wait for the backends. ``RequestError`` of status 500 if they cannot be made."""
        self._control.settimeout(seconds)
        answer = None
        try:
            send_frame(self._control, self._setup)
            data = receive_frame(self._control, _FRAME_BYTES)
            answer = None if data is None else msgspec.msgpack.decode(data, type=CompileAnswer)
        except OSError as error:
            log.warning("the process that compiles grammars does not start: %s", error)
        if answer is None or answer.is_failure:
            self.close()
            reason = "it ended, or took too long to start" if answer is None else answer.message
            raise RequestError(
                f"the process that compiles grammars does not work: {reason}", code="internal_error", status_code=500
            )
        self._control.settimeout(None)

    def compile(self, order: CompileOrder, on_start: OnStart) -> CompileAnswer | None:
        """The answer of a fork; ``None`` if the host has ended."""
        mine, theirs = socket.socketpair()
        with mine:
            with theirs:
                try:
                    socket.send_fds(self._control, [b"\0"], [theirs.fileno()])
                except OSError:
                    return None
            on_start(lambda: _hang_up(mine))
            mine.settimeout(self._setup.timeout)
            try:
                send_frame(mine, order)
                data = receive_frame(mine, self._setup.max_bytes + _FRAME_BYTES)
            except TimeoutError:
                message = f"{order.kind} did not compile within {self._setup.timeout:g} s; simplify it"
                return CompileAnswer(message=message, param=order.kind, is_failure=True)
            except ValueError:
                message = f"{order.kind} compiles into more than {self._setup.max_bytes >> 20} MiB; simplify it"
                return CompileAnswer(message=message, param=order.kind, is_failure=True)
            except OSError:
                data = None
        if data is not None:
            # One that was killed while it wrote leaves half an answer.
            with contextlib.suppress(msgspec.MsgspecError):
                return msgspec.msgpack.decode(data, type=CompileAnswer)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_NOTICE_SECONDS)
            return None
        message = f"{order.kind} was given up while it compiled"
        return CompileAnswer(message=message, param=order.kind, is_failure=True)

    def close(self) -> None:
        """End the process and its forks."""
        self._end()


def _watch(maker_of: weakref.ref[HostedMaker], host_of: weakref.ref[_Host]) -> None:
    """Have another host started once this one has ended by itself. Keeps neither alive."""
    while True:
        time.sleep(_WATCH_SECONDS)
        host, maker = host_of(), maker_of()
        if host is None or maker is None or host.was_closed:
            return
        if not host.is_alive:
            log.warning("the process that compiles grammars has ended; another is started")
            try:
                maker.prepare()
            except RequestError as error:
                # The next request tries again, and is told.
                log.warning("%s", error)
            return
        del host, maker


def _hang_up(sock: socket.socket) -> None:
    """Have the host kill the fork; the thread that waits for it wakes. It may have ended before."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
