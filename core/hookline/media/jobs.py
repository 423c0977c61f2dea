"""What the server and a decoding process say to each other, message by message.

server:   DecodeJob, its blobs ......... Grant ........
decoder:  ................... NeedsRoom ........ Processed
          ................... Refused
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from hookline.errors import RequestError
from hookline.interfaces.multimodal import MediaParams
from hookline.media.limits import DecodeLimits
from hookline.plugins.plan import PluginPlan

LENGTH = struct.Struct("!Q")


class DecoderSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoding process is made from."""

    plugins: PluginPlan
    model_path: str
    limits: DecodeLimits
    #: Names of this server's segments begin so.
    prefix: str
    #: Bytes that one job may take beside what the process takes anyway.
    max_bytes: int
    #: Seconds after which a job's process ends by itself, should nobody end it.
    max_seconds: int


class DecodeJob(msgspec.Struct, frozen=True, kw_only=True):
    """One medium. The file, or the file of each frame, follows in blobs."""

    kind: str
    params: dict[str, Any]
    #: Whether each blob is a picture, and all are the frames of a clip.
    is_frames: bool
    #: Frames a second of such a clip, if it is known.
    fps: float | None
    num_blobs: int
    #: Name of the segment to write.
    segment: str


class TensorPlace(msgspec.Struct, frozen=True, kw_only=True):
    """An array in the job's segment."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class ItemPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A ``ProcessedItem`` whose arrays lie in the job's segment."""

    grid: tuple[int, ...]
    num_rows: int
    cost: int
    tensors: list[TensorPlace]


class NeedsRoom(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The medium is processed; its arrays have so many bytes."""

    num_bytes: int


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Whether they may be written."""

    granted: bool


class Processed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The segment is written."""

    items: list[ItemPlace]
    facts: dict[str, Any]


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What is wrong with the medium, or with the process."""

    message: str
    code: str
    status_code: int

    def error(self) -> RequestError:
        """To be raised on the server's side."""
        return RequestError(self.message, code=self.code, status_code=self.status_code)


Answer = NeedsRoom | Processed | Refused


def params_of(values: Mapping[str, Any]) -> MediaParams:
    """``DecodeJob.params`` as they were."""
    return MediaParams(**values)


def send(sock: socket.socket, data: bytes | bytearray | memoryview) -> None:
    """One message with its length in front."""
    sock.sendall(LENGTH.pack(len(data)))
    sock.sendall(data)


def receive(sock: socket.socket) -> bytearray | None:
    """The next message; ``None`` at the end of the stream."""
    head = _receive(sock, LENGTH.size)
    return None if head is None else _receive(sock, LENGTH.unpack(head)[0])


def _receive(sock: socket.socket, length: int) -> bytearray | None:
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        count = sock.recv_into(view[filled:])
        if count == 0:
            return None
        filled += count
    return data
