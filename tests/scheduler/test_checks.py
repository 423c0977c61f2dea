"""The ledger check finds what was broken and says whose it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hookline.cache.allocator import PagedAllocator
from hookline.cache.embedding_cache import EmbeddingCache
from hookline.cache.placeholder_ids import PlaceholderIds
from hookline.cache.pools import ReqToTokenPool
from hookline.cache.radix_cache import RadixCache
from hookline.messages.requests import CacheNamespace, TokenizedRequest
from hookline.sampling_params import SamplingParams
from hookline.scheduler.checks import LedgerCheck
from hookline.scheduler.kv_ledger import KVLedger
from hookline.scheduler.media import MediaHost
from hookline.scheduler.req import Req, ReqState
from hookline.scheduler.roster import Roster
from hookline.scheduler.stats import Counters
from hookline.scheduler.waits import WaitRoom
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.scheduling import Harness


class Bench:
    """Two requests that hold rows of a small pool: "a" decodes, "b" is in the middle of its prompt."""

    def __init__(self, page_size: int = 4) -> None:
        self.allocator = PagedAllocator(64, page_size)
        self.ledger = KVLedger(self.allocator, ReqToTokenPool(4, 64), RadixCache(self.allocator))
        self.roster, self.waits, self.counters = Roster(), WaitRoom(), Counters()
        self.embeddings = EmbeddingCache(100, 0)
        self.media = MediaHost(
            FakeWorker(), self.roster, self.ledger, self.embeddings, PlaceholderIds(), self.counters, patch_budget=1
        )
        self.check = LedgerCheck(self.roster, self.waits, self.ledger, self.media, self.counters)
        self.a, self.b = self._start("a", 10, 10), self._start("b", 30, 9)
        self.check.verify()

    def _start(self, rid: str, num_prompt: int, num_computed: int) -> Req:
        request = TokenizedRequest(
            rid=rid,
            input_ids=list(range(num_prompt)),
            sampling_params=SamplingParams(max_new_tokens=5),
            namespace=CacheNamespace(salt=rid),
        )
        req = Req(
            request=request,
            arrival=len(self.roster),
            priority=0,
            max_new_tokens=5,
            page_size=self.allocator.page_size,
            end_ids=frozenset(),
            namespace=request.namespace,
        )
        self.roster.add(req)
        self.roster.enqueue(req)
        self.roster.begin(req)
        self.ledger.start(req)
        self.ledger.extend([req], [num_computed])
        self.ledger.keep_prefix(req)
        self.roster.computed([req])
        return req


def lose_a_page(bench: Bench) -> None:
    bench.a.seq_len -= 4
    bench.roster.running.seq_lens = bench.roster.running.seq_lens - 4


def free_a_page_in_use(bench: Bench) -> None:
    bench.allocator.free([int(bench.ledger.pool.table[bench.b.row, 8])])


def share_a_page(bench: Bench) -> None:
    table = bench.ledger.pool.table
    table[bench.b.row, 8] = table[bench.a.row, 9]


def free_a_cached_page(bench: Bench) -> None:
    bench.allocator.free(bench.ledger.cache.owned_slots()[:4])


def share_a_row(bench: Bench) -> None:
    bench.b.row = bench.a.row


def lose_a_row(bench: Bench) -> None:
    bench.ledger.pool.alloc()


def keep_a_row_while_waiting(bench: Bench) -> None:
    bench.roster.leave(bench.b)
    bench.roster.enqueue(bench.b)


def run_without_a_row(bench: Bench) -> None:
    bench.ledger.release(bench.a, keep=True)


def disagree_about_lengths(bench: Bench) -> None:
    bench.roster.running.advance()


def shift_a_slot(bench: Bench) -> None:
    table = bench.ledger.pool.table
    table[bench.a.row, 9] = table[bench.a.row, 2] + 1


def unlock_too_early(bench: Bench) -> None:
    node = bench.a.node
    assert node is not None
    node.lock_ref -= 1


VIOLATIONS: dict[str, tuple[Callable[[Bench], None], str]] = {
    "a lost page": (lose_a_page, "1 pages belong to nobody .* last held by request a"),
    "a page freed in use": (free_a_page_in_use, "belongs to the free list and to request b"),
    "a shared page": (share_a_page, "belongs to request a and to request b"),
    "a cached page freed": (free_a_cached_page, "belongs to the free list and to the prefix cache"),
    "a shared row": (share_a_row, "row 0 is held by requests a and b"),
    "a lost row": (lose_a_row, r"4 rows, but 1 are free and 2 held by \['a', 'b'\]"),
    "a row while waiting": (keep_a_row_while_waiting, "request b waits but holds row 1"),
    "no row while running": (run_without_a_row, r"request a \(running\) holds no row"),
    "lengths apart": (disagree_about_lengths, "length 11 of request a, which says row 0, length 10"),
    "a slot in two pages": (
        shift_a_slot,
        "request a should own 4 slots beyond its 8 cached ones, but its row names 2 pages",
    ),
    "a lost lock": (unlock_too_early, "locks|evictable"),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_violation_names_the_culprit(violation: str) -> None:
    bench = Bench()
    break_it, message = VIOLATIONS[violation]
    break_it(bench)
    with pytest.raises(AssertionError, match=message):
        bench.check.verify()


def test_a_request_that_ended_without_giving_back_is_named() -> None:
    bench = Bench()
    bench.roster.leave(bench.a)
    bench.a.state = ReqState.FINISHED
    bench.roster.sweep()
    bench.roster.forget(bench.a)
    bench.ledger.pool.free(0)
    with pytest.raises(AssertionError, match=r"1 pages belong to nobody .* last held by request a"):
        bench.check.verify()


def test_rows_that_stay_pinned_without_a_request_are_found() -> None:
    bench = Bench()
    bench.embeddings.add(b"a", 40)
    with pytest.raises(AssertionError, match="item 61 has 1 pins, but 0 are held"):
        bench.check.verify()


def test_a_violation_is_logged_counted_and_survived(
    checkpoint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = Harness(checkpoint, cache=False)
    harness.add("leaks", [5] * 9, 4)
    harness.run_until(lambda: len(harness.worker.batches) == 2)
    free = PagedAllocator.free

    def leak(self: PagedAllocator, slots: np.ndarray) -> None:
        free(self, slots[:-1])

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(PagedAllocator, "free", leak)
        harness.abort("leaks")
        harness.run()
    assert "the ledger is violated: 1 pages belong to nobody" in caplog.text
    assert "last held by request leaks" in caplog.text
    assert harness.state["ledger_violations"] > 0
    harness.add("next", [6], 3)
    assert harness.run()["next"].reason == "length"


def test_without_the_option_nothing_is_checked(checkpoint: Path) -> None:
    harness = Harness(checkpoint, check=False)
    assert harness.scheduler._check is None
