"""First come, first served."""

from __future__ import annotations

from hookline.interfaces.scheduling import SchedulePolicy, SchedulerView, WaitingReq


class FcfsPolicy(SchedulePolicy):
    """Order of arrival. A retracted request keeps its place."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: req.arrival)
