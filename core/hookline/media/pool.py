"""MediaPool: one budget of bytes for all media that a process holds, and what is kept of them for the next request.

An entry is a processed medium in shared memory. It is held while requests use it; entries that nobody holds stay, and
leave in the order of their last use when others need the room. Requests wait at the door, in the order of their coming,
until there is room for what they are known to need; inside nobody waits for room while holding some, so that two
requests can never wait for each other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hookline.errors import OverloadedError, RequestError
from hookline.media.segments import remove_segment


class PoolFullError(Exception):
    """There is no room now for ``num_bytes`` more; whoever asked must let go of what it holds, and wait."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__(f"no room for {num_bytes} bytes")
        self.num_bytes = num_bytes


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A processed medium in the pool."""

    digest: bytes
    segment: str
    num_bytes: int
    #: What the pool's user keeps with it.
    value: Any
    num_holders: int = 0


@dataclass(slots=True, eq=False)
class Admission:
    """A request's place inside: bytes that are its own until it is loaded."""

    num_bytes: int
    is_open: bool = field(default=True)


class MediaPool:
    """The budget and the entries. All methods run on one event loop, or in one thread."""

    def __init__(self, max_bytes: int, *, remove: Callable[[str], None] = remove_segment) -> None:
        self.max_bytes = max_bytes
        self._remove = remove
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        #: Bytes of entries, of segments being written, and of admissions.
        self._used = 0
        self._idle_bytes = 0
        #: Of those who have not waited at the door: a process with one request at a time needs none.
        self.no_admission = Admission(0)
        self._queue: deque[tuple[int, asyncio.Future[Admission]]] = deque()

    @property
    def used_bytes(self) -> int:
        """What is taken, idle entries included."""
        return self._used

    @property
    def held_bytes(self) -> int:
        """What is taken and cannot be had back now."""
        return self._used - self._idle_bytes

    @property
    def num_entries(self) -> int:
        """Processed media that are there."""
        return len(self._entries)

    @property
    def num_waiting(self) -> int:
        """Requests at the door."""
        return len(self._queue)

    # --- the door ---

    async def admit(self, num_bytes: int, *, timeout: float) -> Admission:
        """Wait for room of ``num_bytes``. Raises ``OverloadedError`` after ``timeout`` seconds, and ``RequestError``
        (413) for more than the pool has in all."""
        if num_bytes > self.max_bytes:
            raise RequestError(
                f"the request's media need {num_bytes} bytes, the server has {self.max_bytes} for those of all "
                "requests (media_pool_gib); send fewer or smaller ones",
                status_code=413,
                code="media_too_large",
            )
        if not self._queue and self._make_room(num_bytes):
            return self._open(num_bytes)
        ticket: tuple[int, asyncio.Future[Admission]] = (num_bytes, asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        try:
            async with asyncio.timeout(timeout):
                return await ticket[1]
        except BaseException as exc:
            if ticket in self._queue:
                self._queue.remove(ticket)
            elif ticket[1].done() and not ticket[1].cancelled():
                self.leave(ticket[1].result())
            self._let_in()
            if isinstance(exc, TimeoutError):
                raise OverloadedError(
                    f"media of other requests took the server's memory for media for {timeout:g} s (media_pool_gib); "
                    "try again later"
                ) from exc
            raise

    def leave(self, admission: Admission) -> None:
        """Give back what is left of an admission."""
        if admission.is_open:
            admission.is_open = False
            self._used -= admission.num_bytes
            self._let_in()

    def split(self, admission: Admission, num_bytes: int) -> Admission:
        """Part of an admission as one of its own."""
        admission.num_bytes -= num_bytes
        return Admission(num_bytes)

    def shrink(self, admission: Admission, num_bytes: int) -> None:
        """Give back what of an admission is above ``num_bytes``."""
        if admission.is_open and admission.num_bytes > num_bytes:
            self._used -= admission.num_bytes - num_bytes
            admission.num_bytes = num_bytes
            self._let_in()

    # --- entries ---

    def find(self, digest: bytes) -> Entry | None:
        """The entry of a medium, held for the caller."""
        entry = self._entries.get(digest)
        if entry is not None:
            self._entries.move_to_end(digest)
            self.hold(entry)
        return entry

    def take(self, num_bytes: int, admission: Admission) -> None:
        """Room for a segment, from ``admission`` first. Raises ``PoolFullError`` when there is none."""
        own = min(num_bytes, admission.num_bytes) if admission.is_open else 0
        if not self._make_room(num_bytes - own):
            raise PoolFullError(num_bytes)
        if own:
            admission.num_bytes -= own
        self._used += num_bytes - own

    def give_back(self, num_bytes: int) -> None:
        """Room that was taken, and no entry came of it."""
        self._used -= num_bytes
        self._let_in()

    def add(self, digest: bytes, segment: str, num_bytes: int, value: Any) -> Entry:
        """An entry in room that was taken, held for the caller."""
        entry = Entry(digest=digest, segment=segment, num_bytes=num_bytes, value=value, num_holders=1)
        self._entries[digest] = entry
        return entry

    def hold(self, entry: Entry) -> None:
        """One more holder."""
        if entry.num_holders == 0:
            self._idle_bytes -= entry.num_bytes
        entry.num_holders += 1

    def release(self, entries: Iterable[Entry]) -> None:
        """One holder less of each."""
        for entry in entries:
            entry.num_holders -= 1
            # After ``clear`` there is nothing to count.
            if entry.num_holders == 0 and self._entries.get(entry.digest) is entry:
                self._idle_bytes += entry.num_bytes
        self._let_in()

    def clear(self) -> None:
        """Remove every entry, held or not: nobody reads any more."""
        for entry in self._entries.values():
            self._remove(entry.segment)
            self._used -= entry.num_bytes
        self._entries.clear()
        self._idle_bytes = 0

    # --- below ---

    def _make_room(self, num_bytes: int) -> bool:
        """Whether so many bytes are free, after idle entries have left for them."""
        if self._used + num_bytes <= self.max_bytes:
            return True
        if self._used - self._idle_bytes + num_bytes > self.max_bytes:
            return False
        for digest in list(self._entries):
            if self._used + num_bytes <= self.max_bytes:
                break
            entry = self._entries[digest]
            if entry.num_holders == 0:
                del self._entries[digest]
                self._used -= entry.num_bytes
                self._idle_bytes -= entry.num_bytes
                self._remove(entry.segment)
        return True

    def _open(self, num_bytes: int) -> Admission:
        self._used += num_bytes
        return Admission(num_bytes)

    def _let_in(self) -> None:
        while self._queue:
            num_bytes, ticket = self._queue[0]
            if ticket.done():
                self._queue.popleft()
                continue
            if not self._make_room(num_bytes):
                return
            self._queue.popleft()
            ticket.set_result(self._open(num_bytes))
