"""KVLedger: which slots and rows belong to which request.

Slots are given back while passes that were launched before may still read or write them. That is sound
because the worker runs passes in the order of their launch, and whoever gets the slots next writes and
reads them in a pass that is launched later: by then the old pass has finished with them. The same holds for
rows, and for prefixes that are handed to the cache while the pass that computes them is still running.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hookline.cache.prefix_cache import MatchResult, PrefixCache

if TYPE_CHECKING:
    from hookline.cache.allocator import PagedAllocator
    from hookline.cache.pools import ReqToTokenPool
    from hookline.scheduler.req import Req
    from hookline.scheduler.schedule_batch import ScheduleBatch

IntArray = npt.NDArray[np.int64]
_NOTHING = np.empty(0, dtype=np.int64)


@dataclass(slots=True, kw_only=True)
class TableUpdate:
    """What the worker must apply to its copy of the table before a pass, besides the pass's own tokens."""

    rows: IntArray
    cols: IntArray
    slots: IntArray
    freed_rows: list[int] = field(default_factory=list)


class KVLedger:
    """Hands out slots and rows, and takes them back."""

    def __init__(self, allocator: PagedAllocator, pool: ReqToTokenPool, cache: PrefixCache) -> None:
        self.allocator = allocator
        self.pool = pool
        self.cache = cache
        self.page_size = allocator.page_size
        #: Table entries that the worker does not know yet: row -> (first column, slots).
        self._unsent: dict[int, list[tuple[int, IntArray]]] = {}
        self._freed_rows: list[int] = []

    @property
    def num_available(self) -> int:
        """Slots that are free or can be made free."""
        return self.allocator.num_free + self.cache.num_evictable

    @property
    def num_used(self) -> int:
        """Slots that requests hold or that running requests lock in the cache."""
        return self.allocator.num_slots - self.num_available

    def match(self, req: Req, *, admit: bool = False) -> MatchResult:
        """The longest cached prefix that the request may use."""
        return self.cache.match(req.namespace, req.token_ids[: req.max_cached_tokens], admit=admit)

    def start(self, req: Req) -> None:
        """Give the request a row and lock its cached prefix. A free row must exist."""
        row = self.pool.alloc()
        assert row is not None, "a row was promised"
        found = self.match(req, admit=True)
        self.cache.lock(found.node)
        req.row = row
        req.node = found.node
        req.num_protected = req.seq_len = found.num_tokens
        req.prefill_len = req.num_tokens
        if found.num_tokens:
            self._write(row, 0, found.slots)

    def extend(self, reqs: Sequence[Req], new_lens: Sequence[int]) -> IntArray:
        """Slots for ``new_lens`` more tokens of each request, one request after the other; evicts as needed.

        The caller has checked that they fit.
        """
        prefix_lens = [req.seq_len for req in reqs]
        seq_lens = [prefix + new for prefix, new in zip(prefix_lens, new_lens, strict=True)]
        table = self.pool.table
        last_locs = [
            int(table[req.row, prefix - 1]) if prefix else 0 for req, prefix in zip(reqs, prefix_lens, strict=True)
        ]
        self._make_room(self.allocator.extend_slots_needed(prefix_lens, seq_lens))
        slots = self.allocator.alloc_extend(prefix_lens, seq_lens, last_locs)
        assert slots is not None, "the slots were promised"
        start = 0
        for req, prefix, end in zip(reqs, prefix_lens, seq_lens, strict=True):
            # The worker writes a pass's own tokens into its table by itself.
            table[req.row, prefix:end] = slots[start : start + end - prefix]
            start += end - prefix
            req.seq_len = end
        return slots

    def decode(self, batch: ScheduleBatch) -> IntArray:
        """A slot for the next token of each request of a batch that was advanced; evicts as needed."""
        table = self.pool.table
        last_locs = table[batch.rows, batch.prefix_lens - 1]
        self._make_room(self.allocator.decode_slots_needed(batch.seq_lens))
        slots = self.allocator.alloc_decode(batch.seq_lens, last_locs)
        assert slots is not None, "the slots were promised"
        table[batch.rows, batch.prefix_lens] = slots
        for req in batch.reqs:
            req.seq_len += 1
        return slots

    def keep_prefix(self, req: Req) -> None:
        """Hand what a running request has computed so far to the cache, for others to use."""
        assert req.row is not None
        assert req.node is not None
        length = min(req.seq_len, req.num_tokens)
        length -= length % self.page_size
        if length <= req.num_protected:
            return
        own = self.pool.table[req.row, :length].astype(np.int64)
        kept = self.cache.insert(req.namespace, req.token_ids[:length], own, req.priority)
        if kept.num_tokens <= req.num_protected:
            return
        if kept.num_existing > req.num_protected:
            # Somebody cached the same tokens meanwhile: use theirs, give ours back.
            duplicates = slice(req.num_protected, kept.num_existing)
            self._write(req.row, req.num_protected, kept.slots[duplicates])
            self.allocator.free(own[duplicates])
        self.cache.lock(kept.node)
        self.cache.unlock(req.node)
        req.node = kept.node
        req.num_protected = kept.num_tokens

    def release(self, req: Req, *, keep: bool, num_known: int | None = None) -> None:
        """Take everything back from a request; ``keep`` leaves its tokens' KV in the cache, that of the first
        ``num_known`` if given."""
        assert req.row is not None
        assert req.node is not None
        slots = self.pool.table[req.row, : req.seq_len].astype(np.int64)
        cached = req.num_protected
        if keep:
            # A token that is sampled but not yet fed has no KV; one that was cut off after a stop is not wanted.
            length = min(req.seq_len, req.num_tokens if num_known is None else num_known)
            length -= length % self.page_size
            if length > cached:
                kept = self.cache.insert(req.namespace, req.token_ids[:length], slots[:length], req.priority)
                if kept.num_existing > cached:
                    self.allocator.free(slots[cached : kept.num_existing])
                cached = max(cached, kept.num_tokens)
        self.allocator.free(slots[cached:])
        self.cache.unlock(req.node)
        self.pool.free(req.row)
        self._unsent.pop(req.row, None)
        self._freed_rows.append(req.row)
        req.row = req.node = None
        req.num_protected = req.seq_len = req.prefill_len = 0

    def take_update(self) -> TableUpdate:
        """The table entries and freed rows that the worker does not know yet; they go with the next pass."""
        freed, self._freed_rows = self._freed_rows, []
        if not self._unsent:
            return TableUpdate(rows=_NOTHING, cols=_NOTHING, slots=_NOTHING, freed_rows=freed)
        rows, cols, slots = [], [], []
        for row, pieces in self._unsent.items():
            for first, values in pieces:
                rows.append(np.full(len(values), row, dtype=np.int64))
                cols.append(np.arange(first, first + len(values), dtype=np.int64))
                slots.append(values)
        self._unsent = {}
        return TableUpdate(
            rows=np.concatenate(rows), cols=np.concatenate(cols), slots=np.concatenate(slots), freed_rows=freed
        )

    def _write(self, row: int, first: int, slots: IntArray) -> None:
        self.pool.table[row, first : first + len(slots)] = slots
        self._unsent.setdefault(row, []).append((first, slots))

    def _make_room(self, num_slots: int) -> None:
        missing = num_slots - self.allocator.num_free
        if missing > 0:
            self.cache.evict(missing)
