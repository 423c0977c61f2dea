"""Channels over ZMQ on unix sockets, for the processes of one server.

The reading end binds, the writing end connects, so that writers may start first. Only this user can
reach the sockets: they live in a directory with mode 0700.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
from pathlib import Path
from typing import Generic, TypeVar

import zmq

from hookline.errors import OverloadedError, RequestError
from hookline.messages.wire import Codec

M = TypeVar("M")

#: Messages that may wait in a channel, on each side of it.
MAX_QUEUED_MESSAGES = 16384
#: The longest message. Requests are checked against smaller limits before; beyond this it is a bug.
MAX_MESSAGE_BYTES = 1 << 30
#: Longest path of a unix socket, with room for the final zero.
_MAX_SOCKET_PATH = 100
#: Messages given to the event loop in one go, so that it serves other tasks between.
_MAX_MESSAGES_PER_TURN = 16
_RECONNECT_MS = 20


class SocketDirectory:
    """A private directory for the sockets of one server."""

    def __init__(self) -> None:
        self.path = _private_directory()

    def address(self, name: str) -> str:
        """The ZMQ address of the socket ``name``."""
        return f"ipc://{self.path / name}"

    def remove(self) -> None:
        """Delete the directory. Connected sockets keep working; new connections become impossible."""
        shutil.rmtree(self.path, ignore_errors=True)


class SocketSender(Generic[M]):
    """Writing end. ``send`` returns at once unless the reader is ``max_queued`` messages behind.

    Then it waits if ``wait_when_full`` (the scheduler slows down to its reader, nothing is lost), and
    raises ``OverloadedError`` otherwise (an event loop must not wait). For one thread.
    """

    def __init__(
        self,
        address: str,
        codec: Codec[M],
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        wait_when_full: bool,
        max_queued: int = MAX_QUEUED_MESSAGES,
    ) -> None:
        self._codec = codec
        self._flags = 0 if wait_when_full else zmq.NOBLOCK
        self._max_queued = max_queued
        self._socket = context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, max_queued)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self._socket.connect(address)

    def send(self, message: M) -> None:
        data = self._codec.encode(message)
        if len(data) > MAX_MESSAGE_BYTES:
            raise RequestError(
                f"a message of {len(data)} bytes does not fit between processes (limit {MAX_MESSAGE_BYTES}); "
                "ask for fewer tokens or log-probabilities at once"
            )
        try:
            self._socket.send(data, self._flags)
        except zmq.Again as exc:
            raise OverloadedError(f"the engine is {self._max_queued} messages behind; try again later") from exc

    def close(self) -> None:
        """Close at once; what was not delivered is dropped."""
        self._socket.close()


class SocketReceiver(Generic[M]):
    """Reading end for a process that has nothing else to wait for. For one thread."""

    def __init__(
        self,
        address: str,
        codec: Codec[M],
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        max_queued: int = MAX_QUEUED_MESSAGES,
    ) -> None:
        self._codec = codec
        self._socket = context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, max_queued)
        self._socket.bind(address)

    @property
    def fileno(self) -> int:
        """A descriptor that becomes readable (edge-triggered) when messages may have come."""
        return int(self._socket.FD)

    def receive(self, timeout: float | None = 0.0) -> list[M]:
        """All messages that are there, in order. When there is none, wait up to ``timeout`` seconds for
        the first (``None``: for ever); waiting sleeps in the kernel."""
        messages = self.take()
        if messages or timeout == 0.0:
            return messages
        if self._socket.poll(None if timeout is None else max(1, math.ceil(timeout * 1000))):
            messages = self.take()
        return messages

    def take(self, limit: int | None = None) -> list[M]:
        """Messages that are there, ``limit`` at most; never waits."""
        messages: list[M] = []
        while limit is None or len(messages) < limit:
            try:
                data = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            messages.append(self._codec.decode(data))
        return messages

    def close(self) -> None:
        """Close and unbind."""
        self._socket.close()


class AsyncSocketReceiver(Generic[M]):
    """Reading end on an asyncio loop."""

    def __init__(self, receiver: SocketReceiver[M]) -> None:
        self._receiver = receiver
        self._readable = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(receiver.fileno, self._readable.set)

    async def receive(self) -> list[M]:
        """Wait for messages; gives all that are there, up to a limit that keeps the loop responsive."""
        # Messages may come faster than they are handled: let others run each time, even when there are some.
        await asyncio.sleep(0)
        while True:
            # The descriptor signals changes only: clear first, then take until nothing is left.
            self._readable.clear()
            messages = self._receiver.take(_MAX_MESSAGES_PER_TURN)
            if len(messages) == _MAX_MESSAGES_PER_TURN:
                self._readable.set()
            if messages:
                return messages
            await self._readable.wait()

    def stop(self) -> None:
        """Stop watching; the socket stays open."""
        self._loop.remove_reader(self._receiver.fileno)


def _private_directory() -> Path:
    # mkdtemp gives mode 0700. A long TMPDIR would push the address beyond what the kernel takes.
    path = Path(tempfile.mkdtemp(prefix="hookline-"))
    if len(str(path)) + len("/frontend") <= _MAX_SOCKET_PATH:
        return path
    path.rmdir()
    return Path(tempfile.mkdtemp(prefix="hookline-", dir="/tmp"))
