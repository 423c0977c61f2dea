"""Broken policies. Each class of tests names the test that must fail."""

from __future__ import annotations

import itertools
from typing import ClassVar

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


class OrderOfASet(SchedulePolicy):
    """Looks at each request once, in the order in which a set gives them."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        waiting = {req.rid: req for req in view.waiting}
        return [waiting[rid] for rid in set(waiting)]


class TestOrderOfASet(SchedulePolicySuite):
    spec = spec("OrderOfASet")
    caught_by = "test_every_process_has_the_same_order"


class Bored(SchedulePolicy):
    """Puts those last that it has seen before."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._seen: set[str] = set()

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        order = sorted(view.waiting, key=lambda req: (req.rid in self._seen, req.arrival))
        self._seen.update(req.rid for req in order[:1])
        return order


class TestBored(SchedulePolicySuite):
    spec = spec("Bored")
    caught_by = "test_what_was_asked_before_does_not_matter"


class SecretlyAware(SchedulePolicy):
    """Reads the cache and does not say so."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: (-view.match(req).num_cached_tokens, req.arrival))


class TestSecretlyAware(SchedulePolicySuite):
    spec = spec("SecretlyAware")
    caught_by = "test_the_cache_is_read_only_as_announced"


class ShortWithoutACache(SchedulePolicy):
    """The shortest first when there is no cache, where the order of arrival is due."""

    cache_aware: ClassVar[bool] = True

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: (req.num_tokens - view.match(req).num_cached_tokens, req.arrival))


class TestShortWithoutACache(SchedulePolicySuite):
    spec = spec("ShortWithoutACache")
    caught_by = "test_the_cache_is_read_only_as_announced"


class Impatient(SchedulePolicy):
    """Sorts what it has time for, and drops the rest."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: req.arrival)[:1024]


class TestImpatient(SchedulePolicySuite):
    spec = spec("Impatient")
    caught_by = "test_a_long_queue_comes_whole"


class Twice(SchedulePolicy):
    """Puts urgent requests in front, and leaves them where they were."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return [*(req for req in view.waiting if req.priority > 0), *view.waiting]


class TestTwice(SchedulePolicySuite):
    spec = spec("Twice")
    caught_by = "test_all_requests_end_under_an_installed_scheduler"
