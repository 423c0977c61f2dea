"""Lifeline: one socket pair per child process.

The parent sends what to run, the child says that it is ready or why it failed. Either side sees the
other's death as the end of the stream, whatever killed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
from typing import Any

import msgspec

from hookline.config.engine_plan import EnginePlan
from hookline.messages.control import ProcessFailed, ProcessReady

_LENGTH = struct.Struct("!I")
_CHUNK = 1 << 16


class ChildLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """What a child runs."""

    #: "module:callable", called with a ``ChildContext``.
    target: str
    plan: EnginePlan
    #: Channel name -> ZMQ address.
    addresses: dict[str, str]
    #: Settings of the target itself.
    options: dict[str, Any] = {}


ChildReport = ProcessReady | ProcessFailed


class ChildLifeline:
    """The child's end. A thread watches it and ends the process at once when the parent is gone."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        # Grandchildren must not keep the line open.
        os.set_inheritable(descriptor, False)
        self._launch: ChildLaunch | None = None
        self._launched = threading.Event()
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def launch(self) -> ChildLaunch:
        """Wait for what to run."""
        self._launched.wait()
        assert self._launch is not None
        return self._launch

    def report(self, message: ChildReport) -> None:
        """Tell the parent."""
        data = msgspec.msgpack.encode(message)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def _watch(self) -> None:
        stream = self._socket.makefile("rb")
        head = stream.read(_LENGTH.size)
        if len(head) == _LENGTH.size:
            data = stream.read(_LENGTH.unpack(head)[0])
            self._launch = msgspec.msgpack.decode(data, type=ChildLaunch)
            self._launched.set()
            stream.read(1)
        # The parent has closed its end or is dead. Nothing here is worth saving: state lives in requests.
        os._exit(0)


class ParentLifeline:
    """The parent's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = bytearray()
        self._decoder: msgspec.msgpack.Decoder[ChildReport] = msgspec.msgpack.Decoder(ChildReport)

    def launch(self, message: ChildLaunch) -> None:
        """Send what to run."""
        data = msgspec.msgpack.encode(message)
        # A child that died meanwhile shows as the end of its reports.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(_LENGTH.pack(len(data)) + data)
        self._socket.setblocking(False)

    async def next_report(self) -> ChildReport | None:
        """The child's next message, or ``None`` at the end of the line. Call after ``launch``."""
        loop = asyncio.get_running_loop()
        while True:
            message = self._parse()
            if message is not None:
                return message
            try:
                data = await loop.sock_recv(self._socket, _CHUNK)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._received += data

    def hang_up(self) -> None:
        """Tell the child to exit. Its last reports can still be read."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Free the socket, after the child has ended."""
        self._socket.close()

    def _parse(self) -> ChildReport | None:
        if len(self._received) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        if len(self._received) < end:
            return None
        message = self._decoder.decode(bytes(self._received[_LENGTH.size : end]))
        del self._received[:end]
        return message
