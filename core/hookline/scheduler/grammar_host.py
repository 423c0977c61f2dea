"""GrammarHost: the process whose forks compile grammars. ``python -m hookline.scheduler.grammar_host``.

It makes the backends once and never sees a client's text: each job is a socket that it hands to a fork, which has
bounded memory and processor time, reads the job, compiles and answers. When the other end of the socket is closed
before, or this process ends, the fork is killed. This process ends when its control socket does.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import warnings
from functools import cache, partial
from pathlib import Path
from typing import NoReturn

import msgspec

from hookline.errors import RequestError
from hookline.plugins.plan import PluginPlan
from hookline.scheduler.grammar_chain import BackendChain, backend_links
from hookline.text.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("!Q")
_PR_SET_PDEATHSIG = 1
#: An exit of a fork that has answered.
_ANSWERED = 0
#: Grammars that one fork compiles at most.
_MAX_JOBS = 256
#: A fork that keeps more than this part of the memory of one compilation ends.
_GROWTH = 8


class HostSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What the host makes its backends from, and what a fork may use."""

    plugins: PluginPlan
    tokenizer_path: str
    vocab_size: int
    end_token_ids: tuple[int, ...]
    #: As ``backend_links`` takes it.
    quick_first: bool = False
    #: Seconds of processor time of one compilation.
    timeout: float
    #: Bytes that one compilation may take, beside what the backends do.
    max_bytes: int


class CompileOrder(msgspec.Struct, frozen=True):
    """One grammar to compile."""

    kind: str
    source: str


class CompileAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The packed grammar and the name of its backend, or what went wrong."""

    backend: str = ""
    packed: bytes = b""
    message: str = ""
    param: str | None = None
    code: str = ""
    status_code: int = 400
    #: Whether the backends could not even be made, or the fork died.
    is_failure: bool = False

    @classmethod
    def of(cls, error: RequestError) -> CompileAnswer:
        """An error, to be raised on the other side."""
        return cls(
            message=str(error), param=error.param, code=error.code, status_code=error.status_code, is_failure=True
        )


def send_frame(sock: socket.socket, message: msgspec.Struct) -> None:
    """One message with its length in front."""
    data = msgspec.msgpack.encode(message)
    sock.sendall(_LENGTH.pack(len(data)))
    sock.sendall(data)


def receive_frame(sock: socket.socket, limit: int) -> bytearray | None:
    """The next message, or ``None`` at the end of the stream. ``ValueError`` if it is longer than ``limit``."""
    head = _receive(sock, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > limit:
        raise ValueError(f"a message of {length} bytes; at most {limit} are taken")
    return _receive(sock, length)


def _receive(sock: socket.socket, length: int) -> bytearray | None:
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        count = sock.recv_into(view[filled:])
        if count == 0:
            return None
        filled += count
    return data


class GrammarHost:
    """The loop. One thread, so that forks are whole.

    A fork whose grammars compile or are refused in good order takes one after the other; one that breaks off, grows
    or is given up ends. A spare one waits from the start, since forking a large process takes longer than most
    grammars.
    """

    def __init__(self, control: socket.socket, chain: BackendChain, setup: HostSetup) -> None:
        self._control = control
        self._chain = chain
        self._setup = setup
        self._forks: dict[int, _Fork] = {}
        self._base_bytes = _data_bytes()

    def run(self) -> None:
        """Serve until the control socket is closed."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        # A fork that ends interrupts the poll, whenever the signal comes.
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            self._start_fork()
            while True:
                ready = self._poll(woken)
                if woken.fileno() in ready:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                self._kill_abandoned(ready)
                self._reap()
                self._take_idle(ready)
                if self._control.fileno() in ready and not self._take_job():
                    return
        finally:
            self._kill_all()

    def _poll(self, woken: socket.socket) -> dict[int, int]:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(woken, select.POLLIN)
        for fork in self._forks.values():
            poller.register(fork.channel, select.POLLIN)
            if fork.job is not None:
                # Nothing but the hang-up of the other end, which is always told.
                poller.register(fork.job, 0)
        return dict(poller.poll())

    def _take_job(self) -> bool:
        """Give a new job to a fork; false at the end of the control socket."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        except ConnectionResetError:
            return False
        if not data:
            return False
        job = socket.socket(fileno=descriptors[0])
        # One that ends just now is found by the next look; the fork that takes its place is a fresh one.
        while True:
            idle = next((fork for fork in self._forks.values() if fork.is_idle), None) or self._start_fork()
            idle.is_idle = False
            try:
                socket.send_fds(idle.channel, [b"\0"], [job.fileno()])
            except OSError:
                continue
            idle.job = job
            return True

    def _start_fork(self) -> _Fork:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._fork(theirs)
        theirs.close()
        fork = self._forks[pid] = _Fork(pid, ours)
        return fork

    def _take_idle(self, ready: dict[int, int]) -> None:
        """Forks that say they are done."""
        for fork in self._forks.values():
            if not ready.get(fork.channel.fileno(), 0) & select.POLLIN:
                continue
            # One that has ended since gives nothing, or an error; it is reaped next time.
            with contextlib.suppress(ConnectionResetError):
                if fork.channel.recv(1):
                    fork.finish_job()
                    fork.is_idle = True

    def _kill_abandoned(self, ready: dict[int, int]) -> None:
        for pid, fork in self._forks.items():
            # What has answered is about to be told as idle: the other end closes once it has read.
            if fork.job is None or not ready.get(fork.job.fileno(), 0) & (select.POLLHUP | select.POLLERR):
                continue
            if not ready.get(fork.channel.fileno(), 0) & select.POLLIN:
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid, fork in list(self._forks.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._forks[pid]
            code = os.waitstatus_to_exitcode(status)
            if code != _ANSWERED and fork.job is not None:
                self._tell_death(fork.job, code)
            fork.finish_job()
            fork.channel.close()

    def _tell_death(self, sock: socket.socket, code: int) -> None:
        """What a fork could not say itself. Nobody listens to one that was killed for being abandoned."""
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        message = f"compiling it ended with {how}: it takes more than its share of memory or time, or is malformed"
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            send_frame(sock, CompileAnswer(message=message, is_failure=True))

    def _kill_all(self) -> None:
        for pid in self._forks:
            os.kill(pid, signal.SIGKILL)
        for pid in self._forks:
            os.waitpid(pid, 0)

    def _fork(self, channel: socket.socket) -> NoReturn:
        """The body of a fork."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGXCPU):
                signal.signal(number, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            # Whoever waits at the other end of these must see their ends.
            self._control.close()
            for other in self._forks.values():
                other.channel.close()
                other.finish_job()
            code = self._serve(channel)
        finally:
            # No clean-up of what the parent process owns.
            os._exit(code)

    def _serve(self, channel: socket.socket) -> int:
        """One job after the other."""
        for _ in range(_MAX_JOBS):
            data, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
            if not data:
                return _ANSWERED
            self._limit()
            with socket.socket(fileno=descriptors[0]) as sock:
                answer, goes_on = self._compile(sock)
                goes_on = goes_on and _data_bytes() - self._base_bytes <= self._setup.max_bytes // _GROWTH
                if goes_on:
                    # Said before the answer, whose reader hangs up as soon as it has it.
                    channel.send(b"\0")
                # Whoever waited may have given up.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    if answer is not None:
                        send_frame(sock, answer)
            if not goes_on:
                break
        return _ANSWERED

    def _limit(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = math.ceil(used.ru_utime + used.ru_stime + self._setup.timeout) + 1
        # The hard limit could not be raised again for the next job.
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        bytes_allowed = self._base_bytes + self._setup.max_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (bytes_allowed, bytes_allowed))

    def _compile(self, sock: socket.socket) -> tuple[CompileAnswer | None, bool]:
        """The answer, and whether the fork can be trusted with another job."""
        data = receive_frame(sock, sys.maxsize)
        if data is None:
            return None, True
        order = msgspec.msgpack.decode(data, type=CompileOrder)
        try:
            return self._answer(order)
        except MemoryError:
            limit = self._setup.max_bytes >> 20
            message = f"{order.kind} takes more than {limit} MiB to compile; simplify it"
            return CompileAnswer(message=message, param=order.kind, is_failure=True), False

    def _answer(self, order: CompileOrder) -> tuple[CompileAnswer, bool]:
        try:
            name, grammar = self._chain.compile(order.kind, order.source)
            return CompileAnswer(backend=name, packed=grammar.pack()), True
        except RequestError as error:
            return CompileAnswer.of(error), True
        except MemoryError:
            raise
        except Exception as error:
            # Whatever a backend raises over a client's text is the client's error.
            message = f"{order.kind} cannot be compiled: {type(error).__name__}: {error!s:.500}"
            return CompileAnswer(message=message, param=order.kind, is_failure=True), False


class _Fork:
    """A fork, this process' end of its channel, and the job that it has."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.job: socket.socket | None = None
        self.is_idle = True

    def finish_job(self) -> None:
        if self.job is not None:
            self.job.close()
            self.job = None


def _data_bytes() -> int:
    """Bytes of private memory that this process has reserved."""
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmData")


def main() -> int:
    """Read the set-up, make the backends, say so, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control)
    # Signals of a terminal reach every process; the scheduler's end is the control socket's.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # The scheduler may end at any time.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        return _serve(control)
    return 0


def _serve(control: socket.socket) -> int:
    data = receive_frame(control, sys.maxsize)
    if data is None:
        return 0
    setup = msgspec.msgpack.decode(data, type=HostSetup)
    tokenizer = cache(partial(load_tokenizer, setup.tokenizer_path))
    specs = setup.plugins.of_kind("grammar_backends")
    try:
        chain = BackendChain(
            backend_links(
                setup.plugins,
                specs,
                tokenizer,
                setup.vocab_size,
                tuple(setup.end_token_ids),
                quick_first=setup.quick_first,
            )
        )
        chain.prepare()
    except RequestError as error:
        send_frame(control, CompileAnswer.of(error))
        return 1
    send_frame(control, CompileAnswer())
    if _leave_threads():
        GrammarHost(control, chain, setup).run()
    return 0


def _leave_threads() -> bool:
    """Whether to go on here, in a process of one thread: what a library had started is left behind in another one,
    which ends when this one has, and takes this one with it. It is the only fork that is made beside threads."""
    threads = _other_threads()
    if not threads:
        return True
    log.info("the process that compiles grammars goes on without the threads of its libraries: %s", ", ".join(threads))
    with warnings.catch_warnings():
        # What the interpreter warns of is what happens here once, while the threads are idle.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return False
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return True


def _other_threads() -> list[str]:
    """Names of the threads of this process but for the one that asks."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        # One may end meanwhile.
        with contextlib.suppress(OSError):
            if int(task.name) != threading.get_native_id():
                names.append((task / "comm").read_text().strip())
    return sorted(names)


if __name__ == "__main__":
    sys.exit(main())
