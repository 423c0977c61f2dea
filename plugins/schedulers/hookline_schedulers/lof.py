"""Longest output first."""

from __future__ import annotations

from hookline.interfaces.scheduling import SchedulePolicy, SchedulerView, WaitingReq


class LofPolicy(SchedulePolicy):
    """The request that may generate most first, then order of arrival."""

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: (-req.max_new_tokens, req.arrival))
