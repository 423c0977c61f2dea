"""EmbeddingCache: which media have embedding rows, and where. Host data only, like the other caches.

The scheduler decides what is encoded, moved and dropped, and sends it to the workers as ``EncoderOrders``. Rows lie on
the device, or in the host's memory when the device's share is full. Rows that somebody still waits for are pinned:
they may move to the host, but they are never dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    num_bytes: int
    on_host: bool = False
    num_pins: int = 0
    #: Whether the order to encode it was handed out; before, there is nothing to move or drop.
    is_ordered: bool = False


class EmbeddingCache:
    """Digests with rows, the one used last at the end. Budgets are in bytes."""

    def __init__(self, device_bytes: int, host_bytes: int) -> None:
        self._device_bytes = device_bytes
        self._host_bytes = host_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        #: Bytes on the device and on the host.
        self._used = [0, 0]
        self._pinned_bytes = 0
        self._new: list[bytes] = []
        self._offload: list[bytes] = []
        self._drop: list[bytes] = []

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def digests(self) -> list[bytes]:
        """All that have rows, the one used last at the end."""
        return list(self._entries)

    @property
    def device_used(self) -> int:
        """Bytes of rows on the device."""
        return self._used[0]

    @property
    def host_used(self) -> int:
        """Bytes of rows in the host's memory."""
        return self._used[1]

    @property
    def pinned_bytes(self) -> int:
        """Bytes of rows that somebody waits for."""
        return self._pinned_bytes

    @property
    def capacity(self) -> int:
        """Bytes that both budgets allow together."""
        return self._device_bytes + self._host_bytes

    def add(self, digest: bytes, num_bytes: int) -> None:
        """Rows that are to be encoded, pinned once. The digest is not here yet."""
        assert digest not in self._entries, "an item is encoded once"
        self._entries[digest] = _Entry(num_bytes, num_pins=1)
        self._used[0] += num_bytes
        self._pinned_bytes += num_bytes
        self._new.append(digest)
        self._trim()

    def pin(self, digest: bytes) -> None:
        """Keep the rows of a digest that is here until ``unpin``. Pins count."""
        entry = self._entries[digest]
        self._entries.move_to_end(digest)
        if not entry.num_pins:
            self._pinned_bytes += entry.num_bytes
        entry.num_pins += 1

    def unpin(self, digest: bytes) -> None:
        """Undo one ``pin``; a digest that was forgotten meanwhile is passed over."""
        entry = self._entries.get(digest)
        if entry is None or not entry.num_pins:
            return
        entry.num_pins -= 1
        if not entry.num_pins:
            self._pinned_bytes -= entry.num_bytes
            self._trim()

    def forget(self, digest: bytes) -> None:
        """Drop the rows of a digest, pinned or not: they are no good."""
        entry = self._entries.pop(digest, None)
        if entry is None:
            return
        self._used[entry.on_host] -= entry.num_bytes
        if entry.num_pins:
            self._pinned_bytes -= entry.num_bytes
        if entry.is_ordered:
            self._drop.append(digest)
        else:
            self._new.remove(digest)

    def take_orders(self) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Digests to move to the host, to drop, and to encode since the last call; to be done in this order."""
        orders = self._offload, self._drop, self._new
        for digest in self._new:
            self._entries[digest].is_ordered = True
        self._offload, self._drop, self._new = [], [], []
        return orders

    def check(self, pins: Mapping[bytes, int]) -> None:
        """Verify the sums, and that each digest has as many pins as ``pins`` says.

        ``AssertionError`` names what is wrong.
        """
        for digest, entry in self._entries.items():
            wanted = pins.get(digest, 0)
            assert entry.num_pins == wanted, f"item {digest.hex()} has {entry.num_pins} pins, but {wanted} are held"
        for on_host in (False, True):
            held = sum(entry.num_bytes for entry in self._entries.values() if entry.on_host is on_host)
            assert held == self._used[on_host], f"{held} bytes are held, but {self._used[on_host]} are counted"
        pinned = sum(entry.num_bytes for entry in self._entries.values() if entry.num_pins)
        assert pinned == self._pinned_bytes, f"{pinned} bytes are pinned, but {self._pinned_bytes} are counted"

    def _trim(self) -> None:
        """Bring both tiers within their budgets, as far as pins and orders not handed out yet allow."""
        if self._used[0] > self._device_bytes:
            for digest, entry in list(self._entries.items()):
                if self._used[0] <= self._device_bytes:
                    break
                if entry.is_ordered and not entry.on_host:
                    self._evict(digest, entry)
        if self._used[1] > self._host_bytes:
            for digest, entry in list(self._entries.items()):
                if self._used[1] <= self._host_bytes:
                    break
                if entry.on_host and not entry.num_pins:
                    self.forget(digest)

    def _evict(self, digest: bytes, entry: _Entry) -> None:
        """From the device to the host, or away."""
        if entry.num_bytes <= self._host_bytes:
            entry.on_host = True
            self._used[0] -= entry.num_bytes
            self._used[1] += entry.num_bytes
            self._offload.append(digest)
        elif not entry.num_pins:
            self.forget(digest)
