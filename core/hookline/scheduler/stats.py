"""Counters of the scheduler, and the reports that it sends of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hookline.messages.control import SchedulerStats

if TYPE_CHECKING:
    from hookline.cache.embedding_cache import EmbeddingCache
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.outbox import Outbox
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.waits import WaitRoom

#: Seconds between two reports at least.
_INTERVAL = 0.25


@dataclass(slots=True)
class Counters:
    """Totals since the start."""

    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    num_retractions: int = 0
    #: Pictures, clips and the like of requests that came to their turn, and of those the ones whose rows or KV were
    #: there or being made already.
    media_items: int = 0
    media_reused: int = 0
    #: Items that were sent to the encoder, and its work in patches.
    media_encoded: int = 0
    encoder_patches: int = 0
    #: Violations of the ledger that ``observability.check_ledger`` found.
    ledger_violations: int = 0
    stage_seconds: dict[str, float] = field(
        default_factory=lambda: {"schedule": 0.0, "launch": 0.0, "wait": 0.0, "mask": 0.0, "process": 0.0, "send": 0.0}
    )


class StatsReporter:
    """Sends ``SchedulerStats`` a few times a second while there is work, and once when it ends."""

    def __init__(
        self,
        roster: Roster,
        waits: WaitRoom,
        ledger: KVLedger,
        counters: Counters,
        embeddings: EmbeddingCache,
        outbox: Outbox,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._waits = waits
        self._ledger = ledger
        self._counters = counters
        self._embeddings = embeddings
        self._outbox = outbox
        self._clock = clock
        self._last_step = clock()
        self._last_report = clock()
        self._was_idle = True

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to a stage."""
        start = self._clock()
        try:
            yield
        finally:
            self._counters.stage_seconds[name] += self._clock() - start

    def stepped(self) -> None:
        """A pass was completed."""
        self._counters.steps += 1
        self._last_step = self._clock()

    def report(self) -> None:
        """Send a report if one is due."""
        is_idle = not len(self._roster)
        now = self._clock()
        if self._was_idle and not is_idle:
            # Work begins now: what went before was no delay.
            self._last_step = now
        if is_idle != self._was_idle or (not is_idle and now - self._last_report >= _INTERVAL):
            self._last_report = now
            self._outbox.send(self.snapshot())
        self._was_idle = is_idle

    def snapshot(self) -> SchedulerStats:
        """The figures as they are now."""
        counters = self._counters
        return SchedulerStats(
            num_running=self._roster.num_running,
            num_waiting=len(self._roster.waiting),
            num_gated=self._waits.num_gated,
            used_tokens=self._ledger.num_used,
            total_tokens=self._ledger.allocator.num_slots,
            cached_tokens_total=counters.cached_tokens,
            prompt_tokens_total=counters.prompt_tokens,
            generated_tokens_total=counters.generated_tokens,
            num_retractions_total=counters.num_retractions,
            steps_total=counters.steps,
            media_items_total=counters.media_items,
            media_reused_total=counters.media_reused,
            media_encoded_total=counters.media_encoded,
            encoder_patches_total=counters.encoder_patches,
            embedding_bytes=self._embeddings.device_used,
            embedding_host_bytes=self._embeddings.host_used,
            ledger_violations=counters.ledger_violations,
            seconds_since_step=self._clock() - self._last_step if len(self._roster) else 0.0,
            stage_seconds=dict(counters.stage_seconds),
        )

    def state(self) -> dict[str, Any]:
        """The figures and pools for ``server_state``."""
        ledger = self._ledger
        stats = self.snapshot()
        return {
            **{name: getattr(stats, name) for name in stats.__struct_fields__},
            "free_slots": ledger.allocator.num_free,
            "evictable_slots": ledger.cache.num_evictable,
            "protected_slots": ledger.cache.num_protected,
            "free_rows": ledger.pool.num_free,
            "total_rows": ledger.pool.num_rows,
            "page_size": ledger.page_size,
        }
