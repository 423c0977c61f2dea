"""Broken policies. Each class of tests names the test that must fail."""

from __future__ import annotations

import itertools

from hookline.interfaces.scheduling import SchedulePolicy, SchedulePolicySpec, SchedulerView, WaitingReq
from hookline.testkit.policies import SchedulePolicySuite

_calls = itertools.count()


def spec(target: str) -> SchedulePolicySpec:
    return SchedulePolicySpec(name="broken", target=f"{__name__}:{target}", summary="broken on purpose")


class Forgetful(SchedulePolicy):
    """Loses requests that have output already."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return [req for req in view.waiting if not req.num_output_tokens]


class TestForgetful(SchedulePolicySuite):
    spec = spec("Forgetful")
    caught_by = "test_every_request_comes_exactly_once"


class Moody(SchedulePolicy):
    """Depends on how often it was asked."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: req.arrival, reverse=next(_calls) % 2 == 1)


class TestMoody(SchedulePolicySuite):
    spec = spec("Moody")
    caught_by = "test_the_same_view_and_seed_give_the_same_order"


class Meddler(SchedulePolicy):
    """Sorts the queue of the scheduler itself."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        view.waiting.sort(key=lambda req: req.num_tokens)  # type: ignore[attr-defined]
        return list(view.waiting)


class TestMeddler(SchedulePolicySuite):
    spec = spec("Meddler")
    caught_by = "test_the_view_is_left_as_it_was"


class Overtaking(SchedulePolicy):
    """The last to come is the first to go."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: -req.arrival)


class TestOvertaking(SchedulePolicySuite):
    spec = spec("Overtaking")
    caught_by = "test_equal_requests_keep_their_arrival"
