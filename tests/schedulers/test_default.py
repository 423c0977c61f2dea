"""The default scheduler: who runs, who waits for a prefix, who is thrown out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hookline.batch.forward_mode import ForwardMode
from hookline.interfaces.scheduling import PrefixMatch, SchedulerEnv, StepPlan, StepReport
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_view import FakeReq, FakeView
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.scheduling import VOCAB_SIZE, Harness, talkative_prompts
from hookline_schedulers.default import DefaultScheduler
from hookline_schedulers.fcfs import FcfsPolicy
from hookline_schedulers.ratio import NewTokenRatio


def make(page_size: int = 1, chunk: int | None = None, **config: Any) -> DefaultScheduler:
    settings = {
        "schedule_conservativeness": 1.0,
        "enable_mixed_chunk": False,
        "enable_priority": False,
        "priority_preemption_threshold": 10,
        **config,
    }
    return DefaultScheduler(
        SchedulerEnv(
            policy=FcfsPolicy(),
            config=SimpleNamespace(**settings),
            max_running_requests=100,
            max_total_tokens=1000,
            page_size=page_size,
            chunked_prefill_size=chunk,
            max_prefill_tokens=16384,
            seed=0,
        )
    )


def waiting(rid: str, num_tokens: int = 10, **fields: Any) -> FakeReq:
    fields.setdefault("token_ids", np.arange(num_tokens) + sum(map(ord, rid)) * 100)
    return FakeReq(rid, **fields)


def running(rid: str, seq_len: int = 20, num_output: int = 5, **fields: Any) -> FakeReq:
    fields.setdefault("num_owned_slots", seq_len)
    fields.setdefault("token_ids", np.arange(seq_len))
    return FakeReq(rid, seq_len=seq_len, num_output_tokens=num_output, **fields)


def prefilled(plan: StepPlan) -> dict[str, int]:
    return {item.rid: item.num_tokens for item in plan.prefill}


def test_prefill_comes_first_and_decode_when_nobody_waits() -> None:
    scheduler = make()
    view = FakeView(waiting=[waiting("a"), waiting("b", 20, arrival=1)], running=[running("r")])
    plan = scheduler.plan(view)
    assert prefilled(plan) == {"a": 10, "b": 20}
    assert not plan.decode
    assert scheduler.plan(FakeView(running=[running("r")])) == StepPlan(decode=True)


def test_nobody_overtakes_one_that_does_not_fit() -> None:
    plan = make().plan(
        FakeView(
            waiting=[waiting("large", 900, arrival=0), waiting("small", 5, arrival=1)],
            running=[running("r")],
            num_free_slots=500,
        )
    )
    assert prefilled(plan) == {}
    assert plan.decode


def test_rows_bound_what_is_admitted() -> None:
    view = FakeView(waiting=[waiting(f"r{i}", arrival=i) for i in range(4)], num_free_rows=2)
    assert list(prefilled(make().plan(view))) == ["r0", "r1"]


def test_a_full_engine_is_not_searched_at_every_pass() -> None:
    """Looking up prefixes costs time: until somebody leaves, or a while has passed, the queue is left alone."""
    scheduler = make()
    view = FakeView(waiting=[waiting("large", 900)], running=[running("r0"), running("r1")], num_free_slots=500)
    for _ in range(5):
        plan = scheduler.plan(view)
        assert plan.decode
        assert not plan.prefill
    assert view.asked == ["large"]
    view.running = view.running[:1]
    view.num_free_slots = 1000
    assert prefilled(scheduler.plan(view)) == {"large": 900}


def test_the_queue_is_tried_again_after_a_while_although_nobody_left() -> None:
    scheduler = make()
    view = FakeView(waiting=[waiting("a", 400)], running=[running("r")], num_free_slots=300)
    assert scheduler.plan(view).decode
    view.num_free_slots = 600
    plans = [scheduler.plan(view) for _ in range(20)]
    assert any(prefilled(plan) == {"a": 400} for plan in plans)
    assert plans[0].decode


def test_what_can_never_fit_is_rejected_and_the_next_one_runs() -> None:
    view = FakeView(waiting=[waiting("huge", 1001), waiting("fits", 9, arrival=1)], num_free_slots=1000)
    plan = make().plan(view)
    assert [rejection.rid for rejection in plan.reject] == ["huge"]
    assert "1001 tokens do not fit into the KV cache" in plan.reject[0].message
    assert prefilled(plan) == {"fits": 9}


@pytest.mark.parametrize("others", [{"num_releasing": 1}, {"running": [running("r")]}])
def test_nobody_is_rejected_while_slots_may_still_come_back(others: dict[str, Any]) -> None:
    view = FakeView(waiting=[waiting("large", 600)], num_free_slots=500, **others)
    plan = make().plan(view)
    assert not plan.reject
    assert prefilled(plan) == {}


# --- sharing ---


def common(rid: str, num_shared: int, num_own: int, arrival: int, **fields: Any) -> FakeReq:
    own = np.arange(num_own) + 1000 * (arrival + 1)
    return FakeReq(rid, arrival=arrival, token_ids=np.concatenate([np.arange(num_shared), own]), **fields)


def test_of_two_that_share_enough_the_second_waits_a_pass() -> None:
    first, second, other = common("first", 40, 5, 0), common("second", 40, 5, 1), waiting("other", arrival=2)
    scheduler = make()
    assert list(prefilled(scheduler.plan(FakeView(waiting=[first, second, other])))) == ["first", "other"]
    cached = FakeView(waiting=[second], matches={"second": PrefixMatch(num_cached_tokens=40)})
    assert prefilled(scheduler.plan(cached)) == {"second": 5}


@pytest.mark.parametrize(
    ("second", "view"),
    [
        (common("second", 31, 5, 1), {}),
        (common("second", 40, 5, 1, namespace="another tenant"), {}),
        (common("second", 40, 5, 1), {"has_prefix_cache": False}),
        (common("second", 40, 5, 1), {"page_size": 64}),
        (common("second", 40, 5, 1), {"matches": {"second": PrefixMatch(num_cached_tokens=16)}}),
    ],
    ids=["too little", "namespace", "no cache", "less than a page", "mostly cached"],
)
def test_a_request_that_would_gain_little_does_not_wait(second: FakeReq, view: dict[str, Any]) -> None:
    plan = make().plan(FakeView(waiting=[common("first", 40, 5, 0), second], **view))
    assert list(prefilled(plan)) == ["first", "second"]


def test_requests_wait_for_a_prompt_that_is_computed_in_chunks() -> None:
    chunked = common("leader", 100, 5, 0, seq_len=32, num_pending_prefill=73)
    view = FakeView(
        waiting=[common("follower", 100, 5, 1)],
        chunked=chunked,
        matches={"follower": PrefixMatch(num_cached_tokens=32)},
    )
    assert prefilled(make(chunk=80).plan(view)) == {"leader": 73}


def test_identical_cold_prompts_compute_their_prefix_once(checkpoint: Path) -> None:
    for policy in ("fcfs", "lpm"):
        harness = Harness(checkpoint, policy=policy)
        prompt = list(range(50))
        for i in range(4):
            harness.add(f"choice{i}", prompt, 5, choice_index=i)
        outputs = harness.run()
        assert [output.stats.cached_tokens for output in outputs.values() if output.stats] == [0, 49, 49, 49]
        for i in range(4):
            assert outputs[f"choice{i}"].token_ids == expected_output(prompt, 5, VOCAB_SIZE, choice_index=i)
        # One pass for the first, one for the others: waiting is over as soon as the prefix is being computed.
        extends = [batch.rids for batch in harness.worker.batches if batch.mode is ForwardMode.EXTEND]
        assert extends == [["choice0"], ["choice1", "choice2", "choice3"]]
        harness.assert_idle()


# --- retraction ---


def test_those_with_the_least_output_go_first_and_the_longest_prompt_among_equals() -> None:
    old, short, long, young = (
        running("old", 30, 20),
        running("short", 12, 2),
        running("long", 30, 2),
        running("young", 9, 1),
    )
    view = FakeView(running=[old, short, long, young], num_free_slots=0)
    # Four slots are needed; the youngest gives nine.
    assert list(make().plan(view).retract) == ["young"]
    young.num_owned_slots = long.num_owned_slots = 1
    plan = make().plan(view)
    # Four wanted, one given back, three wanted; and again: two given back, two wanted.
    assert list(plan.retract) == ["young", "long"]
    assert plan.decode


def test_the_page_that_a_victim_does_not_need_counts() -> None:
    view = FakeView(
        page_size=16,
        running=[running("a", 32, 3, num_owned_slots=0), running("b", 32, 9, num_owned_slots=0)],
        num_free_slots=16,
    )
    plan = make(page_size=16).plan(view)
    assert (list(plan.retract), plan.decode) == (["a"], True)


def test_the_chunked_request_is_a_victim_like_any_other() -> None:
    chunked = FakeReq("chunked", seq_len=40, num_pending_prefill=10, num_owned_slots=40)
    view = FakeView(running=[running("a"), running("b")], chunked=chunked, num_free_slots=0)
    plan = make(chunk=16).plan(view)
    assert (list(plan.retract), plan.decode) == (["chunked"], True)


def test_one_always_stays() -> None:
    view = FakeView(running=[running("a", num_owned_slots=0), running("b", num_owned_slots=0)], num_free_slots=0)
    plan = make().plan(view)
    assert len(plan.retract) == 1
    # What its cached prefix gives is seen by the next plan only.
    assert not plan.decode


def test_a_request_about_to_end_saves_a_victim_once() -> None:
    scheduler = make()
    view = FakeView(running=[running("a"), running("b", 20, 9)], num_free_slots=0, num_releasing=1)
    assert scheduler.plan(view) == StepPlan()
    # It did not help: slots that somebody holds on to may take long.
    assert list(scheduler.plan(view).retract) == ["a"]


def test_the_last_one_waits_for_slots_that_come_back_and_is_put_back_otherwise() -> None:
    scheduler = make()
    view = FakeView(running=[running("a")], num_free_slots=0, num_releasing=1)
    assert scheduler.plan(view) == scheduler.plan(view) == StepPlan()
    view.num_releasing = 0
    assert list(scheduler.plan(view).retract) == ["a"]


def test_a_retracted_request_returns_before_later_ones(checkpoint: Path) -> None:
    harness = Harness(
        checkpoint, FakeWorker(max_total_tokens=100), schedule={"schedule_conservativeness": 0.01}, cache=False
    )
    prompts = talkative_prompts(6, 40)
    for i, prompt in enumerate(prompts):
        harness.add(f"{i}", prompt, 40, ignore_eos=False)
    outputs = harness.run()
    assert harness.state["num_retractions_total"] > 0
    for i, prompt in enumerate(prompts):
        assert outputs[f"{i}"].token_ids == expected_output(prompt, 40, VOCAB_SIZE)
    # Fair: none of the first half is behind all of the second.
    assert harness.finished[-1] in ("3", "4", "5")
    harness.assert_idle()


# --- the ratio ---


def test_the_ratio_falls_with_decodes_rises_with_retraction_and_starts_anew_when_idle() -> None:
    ratio = NewTokenRatio(1.0)
    assert ratio.value == 0.7
    for _ in range(300):
        ratio.decay()
    assert ratio.value == pytest.approx((0.7 + 0.098) / 2)
    for _ in range(400):
        ratio.decay()
    assert ratio.value == pytest.approx(0.098)
    ratio.raise_for([FakeReq("a", num_output_tokens=30, max_new_tokens=100)])
    assert ratio.value == pytest.approx(50 / 101)
    ratio.reset()
    assert ratio.value == 0.7


def test_conservativeness_scales_the_ratio_up_to_one() -> None:
    assert NewTokenRatio(2.0).value == 1.0
    assert NewTokenRatio(0.5).value == 0.35


def test_only_decodes_without_retraction_lower_the_ratio() -> None:
    scheduler = make()
    before = scheduler._ratio.value
    for report in (
        StepReport(mode="extend", num_retracted=0, num_finished=0, is_idle=False),
        StepReport(mode="decode", num_retracted=1, num_finished=0, is_idle=False),
    ):
        scheduler.on_result(report)
        assert scheduler._ratio.value == before
    scheduler.on_result(StepReport(mode="decode", num_retracted=0, num_finished=0, is_idle=False))
    assert scheduler._ratio.value < before
    scheduler.on_result(StepReport(mode="decode", num_retracted=0, num_finished=1, is_idle=True))
    assert scheduler._ratio.value == before


# --- mixed passes ---


def test_mixed_passes_let_running_requests_go_on(checkpoint: Path) -> None:
    harness = Harness(checkpoint, chunk=16, schedule={"enable_mixed_chunk": True})
    harness.add("runs", [5], 40)
    harness.run_until(lambda: len(harness.worker.batches) == 3)
    harness.add("long", range(90), 4)
    harness.run_until(lambda: "long" in harness.outputs)
    mixed = [batch for batch in harness.worker.batches if batch.mode is ForwardMode.MIXED]
    assert len(mixed) >= 6
    # 16 tokens a pass, the decode's included.
    assert all(batch.rids == ["long", "runs"] and batch.num_tokens <= 16 for batch in mixed)


def test_a_mixed_pass_is_not_planned_without_slots_for_its_decodes() -> None:
    view = FakeView(waiting=[waiting("a", 10)], running=[running("r")], num_free_slots=0)
    plan = make(enable_mixed_chunk=True).plan(view)
    assert not plan.prefill


# --- priority ---


def preempting(difference: int, **view: Any) -> StepPlan:
    settings = {
        "waiting": [waiting("urgent", 10, priority=difference, max_new_tokens=5)],
        "running": [running("low", 20, arrival=1), running("lower", 20, arrival=2, priority=0)],
        "num_free_rows": 0,
        **view,
    }
    return make(enable_priority=True).plan(FakeView(**settings))


@pytest.mark.parametrize(("difference", "victims"), [(10, []), (11, ["lower"])])
def test_only_a_difference_above_the_threshold_preempts(difference: int, victims: list[str]) -> None:
    plan = preempting(difference)
    assert list(plan.retract) == victims
    assert list(prefilled(plan)) == (["urgent"] if victims else [])


def test_the_lowest_priority_goes_first_and_the_newest_among_equals() -> None:
    candidates = [
        running("equal, old", 20, arrival=1, priority=3),
        running("lowest", 20, arrival=0, priority=-5),
        running("equal, new", 20, arrival=2, priority=3),
    ]
    plan = preempting(50, running=candidates, num_free_rows=3, num_free_slots=10)
    assert list(plan.retract) == ["lowest"]
    plan = preempting(
        50,
        waiting=[waiting("urgent", 30, priority=50, max_new_tokens=5)],
        running=candidates,
        num_free_rows=3,
        num_free_slots=10,
    )
    assert list(plan.retract) == ["lowest", "equal, new"]


def test_nobody_is_preempted_in_vain() -> None:
    plan = preempting(50, waiting=[waiting("urgent", 500, priority=50)], num_free_slots=50, num_free_rows=9)
    assert plan == StepPlan(decode=True, reject=[])


def test_nobody_is_preempted_while_there_is_room() -> None:
    plan = preempting(50, num_free_rows=1)
    assert (list(plan.retract), list(prefilled(plan))) == ([], ["urgent"])


def test_an_urgent_request_runs_first_and_its_victim_loses_nothing(checkpoint: Path) -> None:
    harness = Harness(checkpoint, FakeWorker(max_running_requests=1), schedule={"enable_priority": True})
    harness.add("patient", [5, 6], 30, priority=0)
    harness.run_until(lambda: len(harness.worker.batches) == 5)
    harness.add("urgent", [7, 8], 5, priority=20)
    outputs = harness.run()
    assert harness.finished == ["urgent", "patient"]
    assert outputs["patient"].token_ids == expected_output([5, 6], 30, VOCAB_SIZE)
    assert outputs["patient"].stats is not None
    assert outputs["patient"].stats.num_retractions == 1
    harness.assert_idle()


def test_priorities_are_ignored_unless_enabled(checkpoint: Path) -> None:
    harness = Harness(checkpoint, FakeWorker(max_running_requests=1))
    for i in range(4):
        harness.add(f"{i}", [5], 2, priority=i * 100)
    harness.run()
    assert harness.finished == ["0", "1", "2", "3"]
