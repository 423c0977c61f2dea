"""Reports for metrics and health."""

from __future__ import annotations

from pathlib import Path

from hookline.cache.allocator import PagedAllocator
from hookline.cache.embedding_cache import EmbeddingCache
from hookline.cache.no_cache import NoCache
from hookline.cache.pools import ReqToTokenPool
from hookline.messages.control import SchedulerStats
from hookline.messages.requests import CacheNamespace, TokenizedRequest
from hookline.messages.transport import LocalChannel
from hookline.sampling_params import SamplingParams
from hookline.scheduler.kv_ledger import KVLedger
from hookline.scheduler.outbox import Outbox
from hookline.scheduler.req import Req
from hookline.scheduler.roster import Roster
from hookline.scheduler.stats import Counters, StatsReporter
from hookline.scheduler.waits import WaitRoom
from hookline.testkit.scheduling import Harness


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_reports_are_few_while_busy_and_one_at_each_turn() -> None:
    clock, roster, channel = Clock(), Roster(), LocalChannel[SchedulerStats]()
    allocator = PagedAllocator(8, 1)
    ledger = KVLedger(allocator, ReqToTokenPool(1, 8), NoCache())
    reporter = StatsReporter(roster, WaitRoom(), ledger, Counters(), EmbeddingCache(0, 0), Outbox(channel), clock)
    reporter.report()
    assert channel.receive() == []
    request = TokenizedRequest(rid="a", input_ids=[1], sampling_params=SamplingParams())
    req = Req(
        request=request,
        arrival=0,
        priority=0,
        max_new_tokens=1,
        page_size=1,
        end_ids=frozenset(),
        namespace=CacheNamespace(),
    )
    clock.now += 50
    roster.add(req)
    reporter.report()
    # A long idle time is no delay.
    assert [stats.seconds_since_step for stats in channel.receive()] == [0.0]
    for _ in range(100):
        clock.now += 0.01
        reporter.report()
    assert 3 <= len(channel.receive()) <= 4
    clock.now += 5
    reporter.report()
    (stats,) = channel.receive()
    assert round(stats.seconds_since_step, 2) == 6.0
    reporter.stepped()
    roster.forget(req)
    reporter.report()
    (stats,) = channel.receive()
    assert (stats.seconds_since_step, stats.steps_total) == (0.0, 1)
    reporter.report()
    assert channel.receive() == []


def test_totals_add_up(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", range(40), 5)
    harness.run()
    harness.add("b", range(40), 5)
    harness.run()
    last = harness.stats[-1]
    assert (last.prompt_tokens_total, last.cached_tokens_total, last.generated_tokens_total) == (80, 39, 10)
    assert last.num_running == last.num_waiting == last.used_tokens == 0
    assert last.steps_total == len(harness.worker.batches)
    assert set(last.stage_seconds) == {"schedule", "launch", "wait", "mask", "process", "send"}
    assert all(seconds > 0 for name, seconds in last.stage_seconds.items() if name != "mask")
