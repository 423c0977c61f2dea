"""Slots and rows: who holds them, what the worker is told, and what stays cached."""

from __future__ import annotations

import pytest

from hookline.cache.allocator import PagedAllocator
from hookline.cache.no_cache import NoCache
from hookline.cache.pools import ReqToTokenPool
from hookline.cache.prefix_cache import PrefixCache
from hookline.cache.radix_cache import RadixCache
from hookline.messages.requests import LogprobRequest
from hookline.scheduler.kv_ledger import KVLedger
from hookline.scheduler.req import Req
from hookline.scheduler.schedule_batch import ScheduleBatch
from tests.factories.reqs import make_req


def make_ledger(page_size: int = 4, num_slots: int = 64, *, cache: bool = True) -> KVLedger:
    allocator = PagedAllocator(num_slots, page_size, check=True)
    prefixes: PrefixCache = RadixCache(allocator) if cache else NoCache()
    return KVLedger(allocator, ReqToTokenPool(4, 64), prefixes)


def started(ledger: KVLedger, rid: str, prompt: range, page_size: int = 4) -> Req:
    req = make_req(rid, prompt, page_size=page_size)
    ledger.start(req)
    return req


def slots_of(ledger: KVLedger, req: Req) -> list[int]:
    return [int(slot) for slot in ledger.pool.table[req.row, : req.seq_len]]


def test_a_second_request_gets_the_firsts_prefix_and_the_worker_is_told() -> None:
    ledger = make_ledger()
    first = started(ledger, "first", range(10))
    ledger.extend([first], [10])
    ledger.keep_prefix(first)
    assert (first.num_protected, first.num_owned_slots) == (8, 4)
    second = started(ledger, "second", range(12))
    assert second.seq_len == second.num_protected == 8
    update = ledger.take_update()
    assert update.rows.tolist() == [second.row] * 8
    assert update.cols.tolist() == list(range(8))
    assert update.slots.tolist() == slots_of(ledger, first)[:8]
    assert len(ledger.take_update().rows) == 0


def test_the_last_token_of_a_prompt_is_never_taken_from_the_cache() -> None:
    ledger = make_ledger()
    first = started(ledger, "first", range(8))
    ledger.extend([first], [8])
    ledger.release(first, keep=True)
    again = started(ledger, "again", range(8))
    # One token short of the prompt is no whole page, so one page is computed again.
    assert again.seq_len == 4


@pytest.mark.parametrize(("start", "cached"), [(0, 0), (1, 0), (5, 4), (9, 8), (None, 8)])
def test_prompt_logprobs_limit_what_is_taken_from_the_cache(start: int | None, cached: int) -> None:
    """The log-probability of token ``start`` comes from the state of the token before it."""
    ledger = make_ledger()
    first = started(ledger, "first", range(12))
    ledger.extend([first], [12])
    ledger.release(first, keep=True)
    req = make_req("a", range(12), page_size=4, logprobs=LogprobRequest(input_start=start))
    ledger.start(req)
    assert req.seq_len == cached


def test_of_two_that_computed_the_same_one_gives_its_slots_back() -> None:
    ledger = make_ledger()
    first, second = started(ledger, "first", range(10)), started(ledger, "second", range(10))
    ledger.extend([first, second], [10, 10])
    free = ledger.allocator.num_free
    ledger.take_update()
    ledger.keep_prefix(first)
    ledger.keep_prefix(second)
    assert ledger.allocator.num_free == free + 8
    assert slots_of(ledger, first)[:8] == slots_of(ledger, second)[:8]
    assert slots_of(ledger, first)[8:] != slots_of(ledger, second)[8:]
    update = ledger.take_update()
    assert update.rows.tolist() == [second.row] * 8
    assert update.slots.tolist() == slots_of(ledger, first)[:8]


def test_a_row_that_changed_hands_gets_only_its_new_owners_entries() -> None:
    ledger = make_ledger()
    ledger.pool = ReqToTokenPool(1, 64)
    first = started(ledger, "first", range(9))
    ledger.extend([first], [9])
    ledger.release(first, keep=True)
    second = started(ledger, "second", range(9))
    ledger.release(second, keep=False)
    third = started(ledger, "third", range(6))
    update = ledger.take_update()
    assert update.freed_rows == [0, 0]
    assert list(zip(update.rows.tolist(), update.cols.tolist(), strict=True)) == [(0, i) for i in range(4)]
    assert third.row == 0


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("cache", [True, False])
def test_release_gives_everything_back(cache: bool, keep: bool) -> None:
    ledger = make_ledger(cache=cache)
    req = started(ledger, "a", range(10))
    ledger.extend([req], [10])
    ledger.keep_prefix(req)
    batch = ScheduleBatch.of([req])
    for token in range(5):
        req.output_ids.append(token)
        batch.advance()
        ledger.decode(batch)
    ledger.release(req, keep=keep)
    assert (req.row, req.node, req.seq_len) == (None, None, 0)
    assert ledger.num_available == ledger.allocator.num_slots
    # 15 tokens are three whole pages; without keep only those of the prompt that were cached before.
    assert ledger.cache.num_evictable == (0 if not cache else 12 if keep else 8)
    assert ledger.pool.num_free == 4


def test_kv_of_tokens_that_nobody_knows_is_not_kept() -> None:
    """Under overlap a pass may have been launched for a token beyond the last known one."""
    ledger = make_ledger(page_size=1)
    req = started(ledger, "a", range(3), page_size=1)
    ledger.extend([req], [3])
    req.output_ids.append(50)
    batch = ScheduleBatch.of([req])
    batch.advance()
    ledger.decode(batch)
    batch.advance()
    ledger.decode(batch)
    assert (req.seq_len, req.num_tokens) == (5, 4)
    ledger.release(req, keep=True)
    assert ledger.cache.num_evictable == 4
    assert ledger.num_available == 64


def test_room_is_made_from_what_nobody_holds() -> None:
    ledger = make_ledger(page_size=4, num_slots=16)
    old = started(ledger, "old", range(20, 32))
    ledger.extend([old], [12])
    ledger.release(old, keep=True)
    assert (ledger.allocator.num_free, ledger.cache.num_evictable) == (4, 12)
    new = started(ledger, "new", range(16))
    slots = ledger.extend([new], [16])
    assert len(set(slots.tolist())) == 16
    assert ledger.num_available == 0
    assert ledger.num_used == 16
