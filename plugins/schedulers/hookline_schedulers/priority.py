"""Priority order."""

from __future__ import annotations

from hookline.interfaces.scheduling import SchedulePolicy, SchedulerView, WaitingReq


class PriorityPolicy(SchedulePolicy):
    """Larger priority first, then order of arrival. Preempts nobody; ``schedule.enable_priority`` does."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: (-req.priority, req.arrival))
