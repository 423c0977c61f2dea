"""GrammarHost: the process whose forks compile grammars. ``python -m hookline.scheduler.grammar_host``.

It makes the backends once and never sees a client's text: each job is a socket that it hands to a fork, which has
bounded memory and processor time, reads the job, compiles, answers and ends. When the other end of the socket is
closed, or this process ends, the fork is killed. This process ends when its control socket does.
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
from functools import cache, partial
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


class HostSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What the host makes its backends from, and what a fork may use."""

    plugins: PluginPlan
    tokenizer_path: str
    vocab_size: int
    end_token_ids: tuple[int, ...]
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
    """The loop. One thread, so that forks are whole."""

    def __init__(self, control: socket.socket, chain: BackendChain, setup: HostSetup) -> None:
        self._control = control
        self._chain = chain
        self._setup = setup
        #: Process id of a fork -> this process' end of its socket.
        self._jobs: dict[int, socket.socket] = {}
        self._base_bytes = _data_bytes()

    def run(self) -> None:
        """Serve until the control socket is closed."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        # A fork that ends interrupts the poll, whenever the signal comes.
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(woken, select.POLLIN)
        try:
            while True:
                for sock in self._jobs.values():
                    # Nothing but the hang-up of the other end, which is always told.
                    poller.register(sock, 0)
                ready = dict(poller.poll())
                if woken.fileno() in ready:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                self._kill_abandoned(ready)
                self._reap(poller)
                if self._control.fileno() in ready and not self._take_job():
                    return
        finally:
            self._kill_all()

    def _take_job(self) -> bool:
        """Fork for a new job; false at the end of the control socket."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        except ConnectionResetError:
            return False
        if not data:
            return False
        sock = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            self._fork(sock)
        self._jobs[pid] = sock
        return True

    def _kill_abandoned(self, ready: dict[int, int]) -> None:
        for pid, sock in self._jobs.items():
            if ready.get(sock.fileno(), 0) & (select.POLLHUP | select.POLLERR):
                os.kill(pid, signal.SIGKILL)

    def _reap(self, poller: select.poll) -> None:
        for pid, sock in list(self._jobs.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._jobs[pid]
            poller.unregister(sock)
            code = os.waitstatus_to_exitcode(status)
            if code != _ANSWERED:
                self._tell_death(sock, code)
            sock.close()

    def _tell_death(self, sock: socket.socket, code: int) -> None:
        """What a fork could not say itself. Nobody listens to one that was killed for being abandoned."""
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        message = f"compiling it ended with {how}: it takes more than its share of memory or time, or is malformed"
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            send_frame(sock, CompileAnswer(message=message, is_failure=True))

    def _kill_all(self) -> None:
        for pid in self._jobs:
            os.kill(pid, signal.SIGKILL)
        for pid in self._jobs:
            os.waitpid(pid, 0)

    def _fork(self, sock: socket.socket) -> NoReturn:
        """The body of a fork."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGXCPU):
                signal.signal(number, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            # Whoever waits at the other end of these must see their ends.
            for inherited in (self._control, *self._jobs.values()):
                inherited.close()
            self._limit()
            code = self._compile(sock)
        finally:
            # No clean-up of what the parent process owns.
            os._exit(code)

    def _limit(self) -> None:
        seconds = math.ceil(self._setup.timeout) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        bytes_allowed = self._base_bytes + self._setup.max_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (bytes_allowed, bytes_allowed))

    def _compile(self, sock: socket.socket) -> int:
        data = receive_frame(sock, sys.maxsize)
        if data is None:
            return 1
        order = msgspec.msgpack.decode(data, type=CompileOrder)
        try:
            answer = self._answer(order)
        except MemoryError:
            limit = self._setup.max_bytes >> 20
            message = f"{order.kind} takes more than {limit} MiB to compile; simplify it"
            answer = CompileAnswer(message=message, param=order.kind, is_failure=True)
        send_frame(sock, answer)
        return _ANSWERED

    def _answer(self, order: CompileOrder) -> CompileAnswer:
        try:
            name, grammar = self._chain.compile(order.kind, order.source)
            return CompileAnswer(backend=name, packed=grammar.pack())
        except RequestError as error:
            return CompileAnswer.of(error)
        except MemoryError:
            raise
        except Exception as error:
            # Whatever a backend raises over a client's text is the client's error.
            message = f"{order.kind} cannot be compiled: {type(error).__name__}: {error!s:.500}"
            return CompileAnswer(message=message, param=order.kind, is_failure=True)


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
            backend_links(setup.plugins, specs, tokenizer, setup.vocab_size, tuple(setup.end_token_ids))
        )
        chain.prepare()
    except RequestError as error:
        send_frame(control, CompileAnswer.of(error))
        return 1
    send_frame(control, CompileAnswer())
    GrammarHost(control, chain, setup).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
