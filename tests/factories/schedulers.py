"""Batch schedulers for tests: one of its own kind, and ones that misbehave."""

from __future__ import annotations

from dataclasses import replace

from hookline.interfaces.scheduling import (
    BatchScheduler,
    PrefillItem,
    SchedulerEnv,
    SchedulerView,
    StepPlan,
)
from hookline_schedulers.default import DefaultScheduler


class RetractingScheduler(DefaultScheduler):
    """The default one, but every third decode throws somebody out, and so do the first chunks."""

    def __init__(self, env: SchedulerEnv) -> None:
        super().__init__(env)
        self._num_decodes = 0
        # Not for ever: without a cache a long prompt would begin again and again.
        self._num_chunks_left = 5
        #: rid -> output tokens at its last retraction: a victim must have got further since.
        self._progress: dict[str, int] = {}

    def plan(self, view: SchedulerView) -> StepPlan:
        if view.chunked is not None and self._num_chunks_left and len(view.running) % 2:
            self._num_chunks_left -= 1
            return StepPlan(retract=[view.chunked.rid])
        plan = super().plan(view)
        if not plan.decode or plan.prefill or plan.retract:
            return plan
        self._num_decodes += 1
        victim = view.running[self._num_decodes % len(view.running)]
        if self._num_decodes % 3 or self._progress.get(victim.rid, -1) >= victim.num_output_tokens:
            return plan
        self._progress[victim.rid] = victim.num_output_tokens
        return replace(plan, retract=[victim.rid])


class OneByOneScheduler(BatchScheduler):
    """Unlike the default in all it may choose: last come, first served; decodes before it admits; prefills a
    few tokens at a time; always mixes; and parks the youngest when slots run out."""

    def __init__(self, env: SchedulerEnv) -> None:
        super().__init__(env)
        self._chunk = min(5, env.chunked_prefill_size or 5)

    def plan(self, view: SchedulerView) -> StepPlan:
        available = view.num_free_slots + view.num_evictable_slots
        needed = view.decode_slots_needed()
        if needed > available:
            if view.num_releasing:
                return StepPlan()
            youngest = view.chunked or max(view.running, key=lambda req: req.arrival)
            return StepPlan(retract=[youngest.rid])
        items = []
        room = available - needed
        if view.chunked is not None:
            begun = -view.chunked.seq_len % view.page_size
            new_len = min(view.chunked.num_pending_prefill, self._chunk, begun + max(room, 0))
            items = [PrefillItem(rid=view.chunked.rid, num_tokens=new_len)] if new_len > 0 else []
            if not items and not view.running and not view.num_releasing:
                return StepPlan(retract=[view.chunked.rid])
        elif view.waiting and view.num_free_rows and len(view.running) < 5:
            newest = max(view.waiting, key=lambda req: req.arrival)
            match = view.match(newest)
            room -= sum(match.unlocked.values())
            whole = newest.num_tokens - match.num_cached_tokens
            pages = -(-min(whole, self._chunk) // view.page_size) * view.page_size
            if pages <= room:
                items = [PrefillItem(rid=newest.rid, num_tokens=min(whole, self._chunk))]
        return StepPlan(prefill=items, decode=bool(view.running))


class IdleScheduler(BatchScheduler):
    """Plans nothing, ever."""

    def plan(self, view: SchedulerView) -> StepPlan:
        return StepPlan()


class ScriptedScheduler(BatchScheduler):
    """Gives the plans that a test puts into ``plans``; an exception among them is raised."""

    plans: list[StepPlan | Exception]

    def plan(self, view: SchedulerView) -> StepPlan:
        plan = self.plans.pop(0) if self.plans else StepPlan()
        if isinstance(plan, Exception):
            raise plan
        return plan
