"""Longest prefix match first."""

from __future__ import annotations

from typing import ClassVar

from hookline.interfaces.scheduling import SchedulePolicy, SchedulerView, WaitingReq

#: With a longer queue than this, looking up every request costs more than the order gains.
_MAX_SORTED = 128


class LpmPolicy(SchedulePolicy):
    """The request with the longest cached prefix first, then order of arrival; arrival alone in a long queue."""

    cache_aware: ClassVar[bool] = True

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        arrived = sorted(view.waiting, key=lambda req: req.arrival)
        if len(arrived) > _MAX_SORTED:
            return arrived
        return sorted(arrived, key=lambda req: -view.match(req).num_cached_tokens)
