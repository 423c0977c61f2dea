"""DefaultScheduler: prefill first, in chunks; decode otherwise; retract when memory is short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hookline.interfaces.scheduling import (
    BatchScheduler,
    Rejection,
    RunningReq,
    SchedulerEnv,
    SchedulerView,
    StepPlan,
    StepReport,
    WaitingReq,
)
from hookline_schedulers.budget import PrefillBudget, Verdict
from hookline_schedulers.ratio import NewTokenRatio
from hookline_schedulers.sharing import PrefixSharing

#: Passes until a full engine is tried again although nobody left it.
_RETRY_PASSES = 16


class DefaultScheduler(BatchScheduler):
    """New requests run as soon as they fit, in the order of the policy; nobody overtakes one that does not."""

    def __init__(self, env: SchedulerEnv) -> None:
        super().__init__(env)
        self._ratio = NewTokenRatio(env.config.schedule_conservativeness)
        #: How many requests held slots when one did not fit, and the passes until it is tried again: what is
        #: kept free for running requests shrinks as they go on, even if none of them ends.
        self._full_at: int | None = None
        self._passes_to_retry = 0
        self._waited_for_slots = False

    def plan(self, view: SchedulerView) -> StepPlan:
        prefill = self._plan_prefill(view)
        if prefill.prefill:
            return prefill
        return replace(self._plan_decode(view), reject=prefill.reject)

    def on_result(self, report: StepReport) -> None:
        if report.is_idle:
            self._ratio.reset()
        elif report.mode == "decode" and not report.num_retracted:
            self._ratio.decay()

    # --- prefill ---

    def _plan_prefill(self, view: SchedulerView) -> StepPlan:
        admits = len(view.waiting) > 0 and not self._is_full(view)
        if not admits and view.chunked is None:
            return StepPlan()
        mixes = self.env.config.enable_mixed_chunk and _decode_fits(view)
        budget = PrefillBudget(view, self.env, self._ratio.value, num_decodes=len(view.running) if mixes else 0)
        sharing = PrefixSharing(view.page_size)
        if view.chunked is not None:
            budget.resume(view.chunked)
            sharing.lead(view.chunked)
        retract: list[RunningReq] = []
        reject: list[Rejection] = []
        if admits:
            self._admit(view, budget, sharing, retract, reject)
        return StepPlan(prefill=budget.items, decode=mixes, retract=[req.rid for req in retract], reject=reject)

    def _admit(
        self,
        view: SchedulerView,
        budget: PrefillBudget,
        sharing: PrefixSharing,
        retract: list[RunningReq],
        reject: list[Rejection],
    ) -> None:
        """Walk the queue until something does not fit."""
        num_rows = view.num_free_rows
        for req in self._order(view):
            if budget.is_spent:
                return
            match = view.match(req)
            if view.has_prefix_cache and sharing.should_wait(req, match.num_cached_tokens):
                continue
            is_alone = not (view.running or view.chunked is not None or budget.items)
            verdict = budget.admit(req, match, is_alone=is_alone) if num_rows else Verdict.NO_SLOTS
            if verdict is Verdict.NO_SLOTS and self._preempt(view, budget, req, num_rows, retract):
                num_rows += len(retract)
                verdict = budget.admit(req, match, is_alone=is_alone)
            if verdict is Verdict.NO_SLOTS and is_alone and not view.num_releasing:
                reject.append(_never_fits(view, req))
                continue
            if verdict is not Verdict.ADMITTED:
                if verdict is Verdict.NO_SLOTS:
                    self._full_at = _num_holders(view)
                    self._passes_to_retry = _RETRY_PASSES
                return
            num_rows -= 1
            sharing.lead(req)

    def _order(self, view: SchedulerView) -> Sequence[WaitingReq]:
        policy = self.env.policy
        if policy.cache_aware and not view.has_prefix_cache:
            order = sorted(view.waiting, key=lambda req: req.arrival)
        else:
            order = policy.order(view)
        if self.env.config.enable_priority:
            # Stable: the policy decides among equals.
            order = sorted(order, key=lambda req: -req.priority)
        return order

    def _is_full(self, view: SchedulerView) -> bool:
        """Whether walking the queue is likely to be in vain: looking up prefixes costs more than a pass may."""
        if self._full_at is None:
            return False
        self._passes_to_retry -= 1
        is_full = _num_holders(view) >= self._full_at and self._passes_to_retry > 0
        if not is_full or not view.running or self.env.config.enable_priority:
            self._full_at = None
            return False
        return True

    def _preempt(
        self,
        view: SchedulerView,
        budget: PrefillBudget,
        req: WaitingReq,
        num_rows: int,
        retract: list[RunningReq],
    ) -> bool:
        """Retract requests of clearly lower priority, if that makes room for this one. At most once a pass."""
        if not self.env.config.enable_priority or retract:
            return False
        threshold = self.env.config.priority_preemption_threshold
        candidates = [other for other in view.running if req.priority - other.priority > threshold]
        candidates.sort(key=lambda other: (other.priority, -other.arrival))
        missing = budget.missing(req, view.match(req))
        victims: list[RunningReq] = []
        for candidate in candidates:
            if missing <= 0 and num_rows + len(victims) > 0:
                break
            victims.append(candidate)
            missing -= budget.gain(candidate)
        if not victims or missing > 0:
            return False
        for victim in victims:
            budget.give_back(victim)
        retract.extend(victims)
        return True

    # --- decode ---

    def _plan_decode(self, view: SchedulerView) -> StepPlan:
        if not view.running:
            return StepPlan()
        if _decode_fits(view):
            self._waited_for_slots = False
            return StepPlan(decode=True)
        if view.num_releasing and not self._waited_for_slots:
            # A request is about to end: one idle pass is cheaper than computing a victim's KV again.
            self._waited_for_slots = True
            return StepPlan()
        self._waited_for_slots = False
        return self._retract(view)

    def _retract(self, view: SchedulerView) -> StepPlan:
        """Those with the least output go first, the longest prompt among equals; one always stays."""
        candidates = [*view.running, *([view.chunked] if view.chunked is not None else [])]
        candidates.sort(key=lambda req: (req.num_output_tokens, -req.num_prompt_tokens, -req.arrival))
        needed = view.decode_slots_needed()
        available = view.num_free_slots + view.num_evictable_slots
        victims: list[RunningReq] = []
        while needed > available and len(victims) < len(candidates) - 1:
            victim = candidates[len(victims)]
            victims.append(victim)
            available += victim.num_owned_slots
            if not victim.num_pending_prefill and victim.seq_len % view.page_size == 0:
                needed -= view.page_size
        if not victims:
            if view.num_releasing:
                return StepPlan()
            # Alone, and still short: waiting, it is told that it can never fit.
            victims = candidates
        self._ratio.raise_for(candidates[len(victims) :])
        # Their cached prefixes come free too, but how much of them is shared only the next pass knows.
        return StepPlan(retract=[req.rid for req in victims], decode=needed <= available)


def _decode_fits(view: SchedulerView) -> bool:
    return bool(view.running) and view.decode_slots_needed() <= view.num_free_slots + view.num_evictable_slots


def _num_holders(view: SchedulerView) -> int:
    return len(view.running) + view.num_releasing + (view.chunked is not None)


def _never_fits(view: SchedulerView, req: WaitingReq) -> Rejection:
    available = view.num_free_slots + view.num_evictable_slots
    return Rejection(
        rid=req.rid,
        message=f"the request's {req.num_tokens} tokens do not fit into the KV cache, of whose "
        f"{view.num_total_slots} tokens {available} are available with nothing running; shorten it or raise "
        f"kv_cache_tokens",
    )
