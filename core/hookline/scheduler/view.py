"""View: what a BatchScheduler sees of the engine while it plans one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hookline.interfaces.scheduling import PrefixMatch, RunningReq, WaitingReq

if TYPE_CHECKING:
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.roster import Roster


class View:
    """Satisfies ``SchedulerView``. Made for one pass."""

    def __init__(self, roster: Roster, ledger: KVLedger, *, has_prefix_cache: bool, num_held: int) -> None:
        self._roster = roster
        self._ledger = ledger
        self._num_held = num_held
        self.has_prefix_cache = has_prefix_cache
        self.page_size = ledger.page_size

    @property
    def waiting(self) -> Sequence[WaitingReq]:
        return self._roster.waiting

    @property
    def running(self) -> Sequence[RunningReq]:
        return self._roster.running.reqs

    @property
    def chunked(self) -> RunningReq | None:
        return self._roster.chunked

    @property
    def num_free_rows(self) -> int:
        return self._ledger.pool.num_free

    @property
    def num_free_slots(self) -> int:
        return self._ledger.allocator.num_free

    @property
    def num_evictable_slots(self) -> int:
        return self._ledger.cache.num_evictable

    @property
    def num_total_slots(self) -> int:
        return self._ledger.allocator.num_slots

    @property
    def num_releasing(self) -> int:
        return len(self._roster.finishing) + self._num_held

    def match(self, req: WaitingReq) -> PrefixMatch:
        own = self._roster.get(req.rid)
        assert own is not None
        found = self._ledger.match(own)
        return PrefixMatch(num_cached_tokens=found.num_tokens, unlocked=found.unlocked, path=found.path)

    def decode_slots_needed(self) -> int:
        running = self._roster.running
        return self._ledger.allocator.decode_slots_needed(running.seq_lens + 1)
