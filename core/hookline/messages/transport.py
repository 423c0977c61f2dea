"""Channels between the parts of an engine: in one process, or over ZMQ between processes."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, Protocol, TypeVar

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
M_contra = TypeVar("M_contra", contravariant=True)


class Sender(Protocol[M_contra]):
    """The writing end of a channel. A message is not changed after it was sent.

    ``send`` does not wait for the reader. Between processes queues are bounded: an end whose reader is
    thousands of messages behind waits or raises ``OverloadedError``, as it was made to.
    """

    def send(self, message: M_contra) -> None: ...


class Receiver(Protocol[M_co]):
    """The reading end of a channel."""

    def receive(self, timeout: float | None = 0.0) -> list[Any]:
        """All messages that are there, in order. When there is none, wait up to ``timeout`` seconds for
        the first (``None``: for ever)."""
        ...


class LocalChannel(Generic[M]):
    """Both ends in one thread; ``receive`` never waits, since nobody could send meanwhile."""

    def __init__(self) -> None:
        self._messages: deque[M] = deque()

    def send(self, message: M) -> None:
        self._messages.append(message)

    def receive(self, timeout: float | None = 0.0) -> list[M]:
        messages = list(self._messages)
        self._messages.clear()
        return messages
