"""Policies for schedulers under test: with them, a scheduler's suite needs no other plugin."""

from __future__ import annotations

from typing import ClassVar

from hookline.interfaces.scheduling import SchedulePolicy, SchedulerView, WaitingReq


class ArrivalOrder(SchedulePolicy):
    """First come, first served."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: req.arrival)


class NewestFirst(SchedulePolicy):
    """Last come, first served: whoever trusts that a retracted request stands in front is wrong here."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: -req.arrival)


class MostCachedFirst(SchedulePolicy):
    """The longest cached prefix first: the order changes from pass to pass."""

    cache_aware: ClassVar[bool] = True

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: (-view.match(req).num_cached_tokens, req.arrival))
