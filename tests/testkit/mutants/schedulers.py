"""Broken schedulers. Each class of tests names the test that must fail."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from hookline.interfaces.scheduling import SchedulerEnv, SchedulerSpec, SchedulerView, StepPlan, WaitingReq
from hookline.testkit.schedulers import BatchSchedulerSuite
from hookline_schedulers.default import DefaultScheduler


def spec(target: str) -> SchedulerSpec:
    return SchedulerSpec(name="broken", target=f"{__name__}:{target}", summary="broken on purpose")


class Altered:
    """A view with some answers replaced."""

    def __init__(self, view: SchedulerView, **answers: Any) -> None:
        self._view = view
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return self._answers[name] if name in self._answers else getattr(self._view, name)


def altered(view: SchedulerView, **answers: Any) -> SchedulerView:
    return cast(SchedulerView, Altered(view, **answers))


class SpendsTheSlotsOfDecodes(DefaultScheduler):
    """Decodes in the belief that slots are there."""

    def plan(self, view: SchedulerView) -> StepPlan:
        return super().plan(altered(view, decode_slots_needed=lambda: 0))


class TestSpendsTheSlotsOfDecodes(BatchSchedulerSuite):
    spec = spec("SpendsTheSlotsOfDecodes")
    caught_by = "test_running_out_of_slots_loses_nothing"


class NeverRetracts(DefaultScheduler):
    """Waits for slots that nobody gives back."""

    def plan(self, view: SchedulerView) -> StepPlan:
        plan = super().plan(view)
        return StepPlan() if plan.retract else plan


class TestNeverRetracts(BatchSchedulerSuite):
    spec = spec("NeverRetracts")
    caught_by = "test_running_out_of_slots_loses_nothing"


class ForgetsTheChunkedRequest(DefaultScheduler):
    """Starts others and never goes on with the prompt that is under way."""

    def plan(self, view: SchedulerView) -> StepPlan:
        return super().plan(altered(view, chunked=None))


class TestForgetsTheChunkedRequest(BatchSchedulerSuite):
    spec = spec("ForgetsTheChunkedRequest")
    caught_by = "test_a_prompt_in_chunks_ends_beside_others"


class CountsNoRows(DefaultScheduler):
    """Looks at slots only."""

    def plan(self, view: SchedulerView) -> StepPlan:
        return super().plan(altered(view, num_free_rows=self.env.max_running_requests))


class TestCountsNoRows(BatchSchedulerSuite):
    spec = spec("CountsNoRows")
    caught_by = "test_many_more_requests_than_rows_all_end"


class KeepsAQueueOfVictims(DefaultScheduler):
    """Puts those that it retracted in front, and finds them in the queue once more."""

    def __init__(self, env: SchedulerEnv) -> None:
        super().__init__(env)
        self._victims: list[str] = []

    def _order(self, view: SchedulerView) -> Sequence[WaitingReq]:
        waiting = {req.rid: req for req in view.waiting}
        return [*(waiting[rid] for rid in self._victims if rid in waiting), *super()._order(view)]

    def plan(self, view: SchedulerView) -> StepPlan:
        plan = super().plan(view)
        self._victims += plan.retract
        return plan


class TestKeepsAQueueOfVictims(BatchSchedulerSuite):
    spec = spec("KeepsAQueueOfVictims")
    caught_by = "test_running_out_of_slots_loses_nothing"


class ShortestFirst(DefaultScheduler):
    """Whoever is long waits while short ones keep coming."""

    def _order(self, view: SchedulerView) -> Sequence[WaitingReq]:
        return sorted(view.waiting, key=lambda req: req.num_tokens)


class TestShortestFirst(BatchSchedulerSuite):
    spec = spec("ShortestFirst")
    caught_by = "test_an_old_request_runs_under_a_stream_of_new_ones"


class OrderOfASet(DefaultScheduler):
    """Ranks with other hash seeds would start others."""

    def _order(self, view: SchedulerView) -> Sequence[WaitingReq]:
        urgent = {req.rid for req in super()._order(view)}
        waiting = {req.rid: req for req in view.waiting}
        return [waiting[rid] for rid in urgent]


class TestOrderOfASet(BatchSchedulerSuite):
    spec = spec("OrderOfASet")
    caught_by = "test_every_process_makes_the_same_passes"


class LooksAtTheClock(DefaultScheduler):
    """Starts requests at most every 20 ms."""

    def __init__(self, env: SchedulerEnv) -> None:
        super().__init__(env)
        self._last = 0.0

    def plan(self, view: SchedulerView) -> StepPlan:
        if view.running and time.monotonic() - self._last < 0.02:
            return super().plan(altered(view, waiting=[]))
        self._last = time.monotonic()
        return super().plan(view)


class TestLooksAtTheClock(BatchSchedulerSuite):
    spec = spec("LooksAtTheClock")
    caught_by = "test_every_process_makes_the_same_passes"


_engines = itertools.count()


class DiffersByEngine(DefaultScheduler):
    """What is kept in the module outlives an engine."""

    def __init__(self, env: SchedulerEnv) -> None:
        super().__init__(env)
        self._is_second = next(_engines) % 2 == 1

    def _order(self, view: SchedulerView) -> Sequence[WaitingReq]:
        return sorted(view.waiting, key=lambda req: req.arrival, reverse=self._is_second)


class TestDiffersByEngine(BatchSchedulerSuite):
    spec = spec("DiffersByEngine")
    caught_by = "test_a_replay_makes_the_same_passes"


class NeverRejects(DefaultScheduler):
    """Hopes."""

    def plan(self, view: SchedulerView) -> StepPlan:
        return replace(super().plan(view), reject=())


class TestNeverRejects(BatchSchedulerSuite):
    spec = spec("NeverRejects")
    caught_by = "test_what_can_never_fit_is_rejected_and_the_next_one_runs"


class StartsEverybodyOnce(DefaultScheduler):
    """Believes that nobody is retracted whom it does not retract itself."""

    def __init__(self, env: SchedulerEnv) -> None:
        super().__init__(env)
        self._started: set[str] = set()

    def plan(self, view: SchedulerView) -> StepPlan:
        plan = super().plan(altered(view, waiting=[req for req in view.waiting if req.rid not in self._started]))
        self._started.update(item.rid for item in plan.prefill)
        self._started.difference_update(plan.retract)
        return plan


class TestStartsEverybodyOnce(BatchSchedulerSuite):
    spec = spec("StartsEverybodyOnce")
    caught_by = "test_requests_that_core_takes_back_run_again"


class TestRemembersTheCancelled(BatchSchedulerSuite):
    spec = spec("StartsEverybodyOnce")
    caught_by = "test_requests_that_are_all_cancelled_leave_nothing"


class AlwaysMixes(DefaultScheduler):
    """Decodes along with every prefill, whatever the attention backend can do."""

    def plan(self, view: SchedulerView) -> StepPlan:
        plan = super().plan(view)
        prefilled = sum(item.num_tokens + view.page_size for item in plan.prefill)
        fits = view.decode_slots_needed() + prefilled <= view.num_free_slots
        return replace(plan, decode=plan.decode or (fits and len(view.running) > 0))


class TestAlwaysMixes(BatchSchedulerSuite):
    spec = spec("AlwaysMixes")
    caught_by = "test_every_request_ends_with_exactly_its_tokens"


class WholePrompts(DefaultScheduler):
    """Has never heard of chunks; memory was measured for them."""

    def __init__(self, env: SchedulerEnv) -> None:
        super().__init__(replace(env, chunked_prefill_size=None))


class TestWholePrompts(BatchSchedulerSuite):
    spec = spec("WholePrompts")
    caught_by = "test_a_prompt_in_chunks_ends_beside_others"


class RoundsDown(DefaultScheduler):
    """Counts tokens where slots come in whole pages."""

    def plan(self, view: SchedulerView) -> StepPlan:
        needed = sum(req.seq_len % view.page_size == 0 for req in view.running)
        return super().plan(altered(view, decode_slots_needed=lambda: needed))


class TestRoundsDown(BatchSchedulerSuite):
    spec = spec("RoundsDown")
    caught_by = "test_running_out_of_slots_loses_nothing"
