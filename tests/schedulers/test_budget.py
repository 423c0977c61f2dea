"""What fits into a prefill pass, to the token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hookline.interfaces.scheduling import PrefixMatch, SchedulerEnv
from hookline.testkit.fake_view import FakeReq, FakeView
from hookline_schedulers.budget import PrefillBudget, Verdict
from hookline_schedulers.fcfs import FcfsPolicy

NOT_CACHED = PrefixMatch(num_cached_tokens=0)


def make_budget(
    view: FakeView, *, ratio: float = 0.5, chunk: int | None = None, max_prefill: int = 16384, num_decodes: int = 0
) -> PrefillBudget:
    env = SchedulerEnv(
        policy=FcfsPolicy(),
        config=SimpleNamespace(),
        max_running_requests=100,
        max_total_tokens=view.num_total_slots,
        page_size=view.page_size,
        chunked_prefill_size=chunk,
        max_prefill_tokens=max_prefill,
        seed=0,
    )
    return PrefillBudget(view, env, ratio, num_decodes=num_decodes)


def req(num_tokens: int, max_new_tokens: int = 16, **fields: Any) -> FakeReq:
    return FakeReq("a", token_ids=np.arange(num_tokens), max_new_tokens=max_new_tokens, **fields)


@pytest.mark.parametrize(("free", "verdict"), [(26, Verdict.NO_SLOTS), (27, Verdict.ADMITTED)])
def test_a_request_needs_room_for_its_whole_output_and_one_more(free: int, verdict: Verdict) -> None:
    assert make_budget(FakeView(num_free_slots=free)).admit(req(10), NOT_CACHED, is_alone=False) is verdict


def test_cached_slots_count_as_room() -> None:
    budget = make_budget(FakeView(num_free_slots=7, num_evictable_slots=20))
    assert budget.admit(req(10), NOT_CACHED, is_alone=False) is Verdict.ADMITTED


def test_locking_a_cached_prefix_takes_it_from_the_room() -> None:
    """30 evictable tokens are the request's own prefix: they are no room for its output."""
    match = PrefixMatch(num_cached_tokens=30, unlocked={1: 20, 2: 10})
    view = FakeView(num_free_slots=17, num_evictable_slots=30)
    assert make_budget(view).admit(req(31), match, is_alone=False) is Verdict.NO_SLOTS
    view.num_free_slots = 18
    assert make_budget(view).admit(req(31), match, is_alone=False) is Verdict.ADMITTED


def test_a_prefix_that_two_share_is_locked_once() -> None:
    match = PrefixMatch(num_cached_tokens=30, unlocked={1: 20, 2: 10})
    budget = make_budget(FakeView(num_free_slots=36, num_evictable_slots=30))
    assert budget.admit(req(31), match, is_alone=False) is Verdict.ADMITTED
    assert budget.rem_total == 36 - 17
    assert budget.admit(req(31), match, is_alone=False) is Verdict.ADMITTED


@pytest.mark.parametrize(("ignore_eos", "left"), [(False, 95), (True, 90)])
def test_running_requests_keep_a_part_of_their_output_free(ignore_eos: bool, left: int) -> None:
    running = [FakeReq("r", num_output_tokens=6, max_new_tokens=16, ignore_eos=ignore_eos)]
    assert make_budget(FakeView(running=running, num_free_slots=100), ratio=0.5).rem_total == left


def test_nobody_is_expected_to_generate_more_than_4096_tokens() -> None:
    budget = make_budget(FakeView(num_free_slots=5000))
    assert budget.admit(req(10, max_new_tokens=100_000), NOT_CACHED, is_alone=False) is Verdict.ADMITTED
    assert budget.rem_total == 5000 - 10 - 4096


def test_whole_pages_are_counted() -> None:
    budget = make_budget(FakeView(num_free_slots=160, page_size=16))
    assert budget.admit(req(17), NOT_CACHED, is_alone=False) is Verdict.ADMITTED
    assert (budget.rem_slots, budget.rem_total) == (128, 112)


def test_one_alone_needs_no_room_for_its_output() -> None:
    assert make_budget(FakeView(num_free_slots=10)).admit(req(10), NOT_CACHED, is_alone=True) is Verdict.ADMITTED
    assert make_budget(FakeView(num_free_slots=9)).admit(req(10), NOT_CACHED, is_alone=True) is Verdict.NO_SLOTS


def test_the_first_request_may_exceed_the_input_budget_and_the_next_may_not() -> None:
    budget = make_budget(FakeView(), max_prefill=20)
    assert budget.admit(req(50), NOT_CACHED, is_alone=False) is Verdict.ADMITTED
    assert budget.is_spent
    budget = make_budget(FakeView(), max_prefill=20)
    assert budget.admit(req(10), NOT_CACHED, is_alone=False) is Verdict.ADMITTED
    assert budget.admit(req(10), NOT_CACHED, is_alone=False) is Verdict.PASS_FULL
    assert budget.admit(req(9), NOT_CACHED, is_alone=False) is Verdict.ADMITTED


def test_a_long_prompt_is_cut_to_whole_pages_and_only_one_is_cut() -> None:
    budget = make_budget(FakeView(page_size=16), chunk=40)
    assert budget.admit(req(100), NOT_CACHED, is_alone=False) is Verdict.ADMITTED
    assert budget.items[0].num_tokens == 32
    assert budget.rem_chunk == 8
    assert not budget.is_spent
    assert budget.admit(req(8), NOT_CACHED, is_alone=False) is Verdict.ADMITTED
    assert budget.is_spent
    budget = make_budget(FakeView(page_size=1), chunk=40)
    budget.admit(req(30), NOT_CACHED, is_alone=False)
    assert budget.admit(req(30), NOT_CACHED, is_alone=False) is Verdict.ADMITTED
    assert [item.num_tokens for item in budget.items] == [30, 10]


def test_less_than_a_page_is_no_chunk() -> None:
    budget = make_budget(FakeView(page_size=16), chunk=40)
    budget.admit(req(30), NOT_CACHED, is_alone=False)
    assert budget.admit(req(30), NOT_CACHED, is_alone=False) is Verdict.PASS_FULL


def test_a_first_chunk_leaves_no_room_for_output_and_the_last_one_does() -> None:
    budget = make_budget(FakeView(num_free_slots=200), chunk=40)
    assert budget.admit(req(100), NOT_CACHED, is_alone=False) is Verdict.ADMITTED
    assert budget.rem_total == 160
    chunked = FakeReq("a", seq_len=80, num_pending_prefill=20)
    budget = make_budget(FakeView(num_free_slots=200, chunked=chunked), chunk=40)
    budget.resume(chunked)
    assert budget.items[0].num_tokens == 20
    assert budget.rem_total == 200 - 20 - 16
    assert budget.rem_chunk == 20


def test_a_chunk_yields_to_what_running_requests_will_need() -> None:
    running = [FakeReq("r", max_new_tokens=60)]
    chunked = FakeReq("a", seq_len=10, num_pending_prefill=50)
    budget = make_budget(FakeView(running=running, chunked=chunked, num_free_slots=40), ratio=0.5, chunk=30)
    budget.resume(chunked)
    assert [item.num_tokens for item in budget.items] == [10]
    budget = make_budget(FakeView(running=running, chunked=chunked, num_free_slots=30), ratio=0.5, chunk=30)
    budget.resume(chunked)
    assert budget.items == []


def test_a_chunk_fills_the_page_that_it_began_before_it_takes_another() -> None:
    chunked = FakeReq("a", seq_len=20, num_pending_prefill=50)
    budget = make_budget(FakeView(chunked=chunked, num_free_slots=0, page_size=16), chunk=30)
    budget.resume(chunked)
    assert [item.num_tokens for item in budget.items] == [12]
    assert budget.rem_slots == 0


def test_decodes_that_run_along_take_their_part() -> None:
    running = [FakeReq(f"r{i}", seq_len=16, max_new_tokens=1) for i in range(10)]
    budget = make_budget(FakeView(running=running, num_free_slots=320, page_size=16), chunk=64, num_decodes=10)
    assert (budget.rem_slots, budget.rem_chunk, budget.rem_input) == (160, 54, 16374)
    # However many they are, the prefill gets a page.
    assert make_budget(FakeView(page_size=16), chunk=64, num_decodes=100).rem_chunk == 16


def test_a_victim_gives_its_slots_and_its_expected_output() -> None:
    victim = FakeReq("v", max_new_tokens=40, num_owned_slots=12)
    budget = make_budget(FakeView(running=[victim], num_free_slots=30), ratio=0.5)
    assert budget.rem_total == 10
    waiting = req(20)
    assert budget.missing(waiting, NOT_CACHED) == 27
    assert budget.gain(victim) == 32
    budget.give_back(victim)
    assert (budget.rem_total, budget.rem_slots) == (42, 42)
    assert budget.missing(waiting, NOT_CACHED) == 0
    assert budget.admit(waiting, NOT_CACHED, is_alone=False) is Verdict.ADMITTED
