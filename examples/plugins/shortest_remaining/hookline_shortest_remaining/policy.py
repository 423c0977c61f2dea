"""Shortest remaining first."""

from __future__ import annotations

from hookline.interfaces.scheduling import SchedulePolicy, SchedulerView, WaitingReq


class ShortestRemaining(SchedulePolicy):
    """The request with the fewest tokens left first, then order of arrival.

    Says nothing of the prefix cache on purpose: a policy that reads it must be the order of arrival without one.
    """

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        return sorted(view.waiting, key=lambda req: (remaining(req), req.arrival))


def remaining(req: WaitingReq) -> int:
    """Prompt tokens to compute and output tokens that may still come.

    Output that a retracted request has already counts as done: a single prefill brings its KV back.
    """
    return req.num_prompt_tokens + req.max_new_tokens - req.num_output_tokens
