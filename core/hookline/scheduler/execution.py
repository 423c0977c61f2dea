"""Execution: carries out a StepPlan. The scheduler decides; what it decided is checked against the ledger here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import LogprobSpec, PoolingSpec, SamplingRow
from hookline.errors import ContextLengthError, PluginError
from hookline.scheduler.req import Req, ReqState
from hookline.scheduler.schedule_batch import Pass, ScheduleBatch

if TYPE_CHECKING:
    from hookline.interfaces.scheduling import PrefillItem, StepPlan
    from hookline.scheduler.finisher import Finisher
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.stats import Counters


class Execution:
    """Retracts, rejects, allocates, and puts a pass together."""

    def __init__(
        self,
        roster: Roster,
        ledger: KVLedger,
        finisher: Finisher,
        counters: Counters,
        scheduler_name: str,
        *,
        can_mix: bool = True,
    ) -> None:
        """``can_mix``: whether the attention backend takes prefills and decodes in one pass."""
        self._roster = roster
        self._ledger = ledger
        self._finisher = finisher
        self._counters = counters
        #: Named in every refusal of a plan.
        self._scheduler_name = scheduler_name
        self._can_mix = can_mix
        #: Number of the pass that was launched last.
        self.last_step = 0

    def carry_out(self, plan: StepPlan) -> Pass | None:
        """The pass of a plan with everything allocated, or ``None`` when the plan is idle.

        Raises ``PluginError`` naming the scheduler when the plan breaks the ledger.
        """
        self._check_names(plan)
        for rid in plan.retract:
            self.retract(self._need(rid))
        self._roster.sweep()
        for rejection in plan.reject:
            self._finisher.fail(self._need(rejection.rid), ContextLengthError(rejection.message))
        started = self._start(plan.prefill)
        extends = [self._need(item.rid) for item in plan.prefill]
        new_lens = [item.num_tokens for item in plan.prefill]
        decodes = plan.decode and len(self._roster.running) > 0
        self._check_sizes(extends, new_lens, decodes=decodes)
        if not extends and not decodes:
            return None
        a_pass = self._allocate(extends, new_lens, decodes=decodes)
        a_pass.num_retracted = len(plan.retract)
        a_pass.new_rows = [_sampling_row(req) for req in started]
        return a_pass

    def launched(self, a_pass: Pass) -> None:
        """The pass is on its way: place its requests, and let others use the prefixes that it computes."""
        self.last_step = a_pass.step
        extends = a_pass.batch.reqs[: a_pass.num_extends]
        for req in extends:
            # Now and not with the result, so that the very next pass can share the prefix.
            self._ledger.keep_prefix(req)
        if a_pass.num_extends < len(a_pass.batch):
            self._roster.decoded()
        self._roster.computed(extends)

    def retract(self, req: Req, *, keep: bool = True) -> None:
        """Take row and slots from a request, which waits again; its output stays, its KV may be evicted."""
        self._ledger.release(req, keep=keep)
        self._roster.leave(req)
        req.epoch += 1
        req.num_retractions += 1
        self._counters.num_retractions += 1
        if not req.has_input_logprobs:
            req.input_logprobs.clear()
        self._roster.enqueue(req)

    def requeue(self, req: Req, num_known: int) -> None:
        """Have a running request wait for a prefill of what was appended to it, unsampled, after its first
        ``num_known`` tokens. Their KV, if computed or being computed, stays in the cache."""
        self._ledger.release(req, keep=True, num_known=num_known)
        self._roster.leave(req)
        req.epoch += 1
        self._roster.enqueue(req)

    def _start(self, items: Sequence[PrefillItem]) -> list[Req]:
        """Rows and locked prefixes for the requests that begin. All are locked before anything is evicted."""
        started = [req for item in items if (req := self._need(item.rid)).state is ReqState.WAITING]
        if len(started) > self._ledger.pool.num_free:
            raise self._refusal(f"{len(started)} requests start, but {self._ledger.pool.num_free} rows are free")
        now = time.time()
        for req in started:
            self._roster.begin(req)
            self._ledger.start(req)
            if not req.has_started:
                req.has_started = True
                req.cached_tokens = req.seq_len
                self._counters.cached_tokens += req.seq_len
                self._counters.prompt_tokens += req.num_prompt_tokens
                if req.request.received_at:
                    req.queue_time = max(now - req.request.received_at, 0.0)
        return started

    def _allocate(self, extends: list[Req], new_lens: list[int], *, decodes: bool) -> Pass:
        slots, batches = [], []
        if extends:
            prefix_lens = [req.seq_len for req in extends]
            slots.append(self._ledger.extend(extends, new_lens))
            batches.append(ScheduleBatch.of(extends, prefix_lens))
        if decodes:
            self._roster.running.advance()
            slots.append(self._ledger.decode(self._roster.running))
            batches.append(self._roster.running.snapshot())
        batch = batches[0]
        if len(batches) > 1:
            batch.merge(batches[1])
        num_extends = len(extends)
        samples = [req.samples and not req.num_pending_prefill for req in extends]
        samples += [True] * (len(batch) - num_extends)
        mode = ForwardMode.EXTEND if not decodes else ForwardMode.MIXED if extends else ForwardMode.DECODE
        return Pass(
            mode=mode,
            batch=batch,
            num_extends=num_extends,
            out_cache_loc=np.concatenate(slots) if len(slots) > 1 else slots[0],
            samples=samples,
            logprobs=_logprobs(batch, num_extends, samples),
            pooling=_pooling(batch.reqs, num_extends),
            constrained=[i for i in np.flatnonzero(batch.constrained).tolist() if samples[i]],
        )

    # --- checks ---

    def _need(self, rid: str) -> Req:
        req = self._roster.get(rid)
        if req is None:
            raise self._refusal(f"request '{rid}' is not here")
        return req

    def _check_names(self, plan: StepPlan) -> None:
        """Who is named, and in which state."""
        _waiting, _holding = (ReqState.WAITING,), (ReqState.RUNNING, ReqState.CHUNKED)
        named: set[str] = set()
        for what, rids, states in (
            ("retracts", list(plan.retract), _holding),
            ("rejects", [rejection.rid for rejection in plan.reject], _waiting),
            ("prefills", [item.rid for item in plan.prefill], (ReqState.WAITING, ReqState.CHUNKED)),
        ):
            for rid in rids:
                state = self._need(rid).state
                if state not in states:
                    raise self._refusal(f"it {what} request '{rid}', which is {state.value}")
                if rid in named:
                    raise self._refusal(f"request '{rid}' is named twice")
                named.add(rid)

    def _check_sizes(self, extends: list[Req], new_lens: list[int], *, decodes: bool) -> None:
        """Whether tokens and slots are there. Prefixes are locked by now, so what is available stays so."""
        if extends and decodes and not self._can_mix:
            raise self._refusal(
                "it prefills and decodes in one pass, which the attention backend does not support; a scheduler that "
                'mixes must impose the feature "mixed", or mix only if schedule.enable_mixed_chunk is set'
            )
        partial = [] if self._roster.chunked is None or self._roster.chunked in extends else [self._roster.chunked]
        for req, new in zip(extends, new_lens, strict=True):
            left = req.num_pending_prefill
            if not 0 < new <= left:
                raise self._refusal(f"request '{req.rid}' is to compute {new} tokens of the {left} that are left")
            if new < left:
                partial.append(req)
        if len(partial) > 1:
            names = " and ".join(f"'{req.rid}'" for req in partial)
            raise self._refusal(f"requests {names} would both be in the middle of their prompts; one may be")
        allocator = self._ledger.allocator
        prefix_lens = [req.seq_len for req in extends]
        needed = allocator.extend_slots_needed(
            prefix_lens, [prefix + new for prefix, new in zip(prefix_lens, new_lens, strict=True)]
        )
        if decodes:
            needed += allocator.decode_slots_needed(self._roster.running.seq_lens + 1)
        if needed > self._ledger.num_available:
            raise self._refusal(f"the pass needs {needed} slots, but {self._ledger.num_available} can be had")

    def _refusal(self, what: str) -> PluginError:
        return PluginError(f"{self._scheduler_name} made a plan that cannot be carried out: {what}")


def _sampling_row(req: Req) -> SamplingRow:
    assert req.row is not None
    # What a grammar leaves is known to the mask alone, which therefore holds end tokens back in the sampler's place.
    params = req.params if req.matcher is None else req.params.replace(min_new_tokens=0)
    return SamplingRow(
        row=req.row,
        params=params,
        choice_index=req.request.choice_index,
        prompt_ids=tuple(req.request.input_ids),
        output_ids=tuple(req.output_ids),
        end_token_ids=tuple(sorted(req.end_ids)),
    )


def _logprobs(batch: ScheduleBatch, num_extends: int, samples: list[bool]) -> list[LogprobSpec | None] | None:
    asking = np.flatnonzero(batch.wants_logprobs).tolist()
    if not asking:
        return None
    wishes: list[LogprobSpec | None] = [None] * len(batch)
    for i in asking:
        req = batch.reqs[i]
        if i < num_extends:
            prefix, end = int(batch.prefix_lens[i]), int(batch.seq_lens[i])
            wishes[i] = _extend_logprobs(req, prefix, end, samples=samples[i])
        else:
            wishes[i] = req.decode_logprobs
    return wishes if any(wish is not None for wish in wishes) else None


def _extend_logprobs(req: Req, prefix: int, end: int, *, samples: bool) -> LogprobSpec | None:
    """What positions ``prefix`` ... ``end`` - 1 give: each the log-probability of the token after it. That one is of
    the prompt, or appended to the output."""
    wish = req.request.logprobs
    assert wish is not None
    output = wish.output and samples
    start = req.pending_score_start
    if start is None or start >= end:
        return req.decode_logprobs if output else None
    first = max(prefix, start)
    if req.num_unscored:
        targets = req.token_ids[first + 1 : end + 1].tolist()
    else:
        targets = req.request.input_ids[first + 1 : end + 1]
    return LogprobSpec(
        output=output,
        top=wish.top,
        token_ids=wish.token_ids,
        input_start=first - prefix,
        input_targets=tuple(targets),
    )


def _pooling(reqs: list[Req], num_extends: int) -> list[PoolingSpec | None] | None:
    if not any(req.pooling is not None for req in reqs[:num_extends]):
        return None
    specs: list[PoolingSpec | None] = [None] * len(reqs)
    for i, req in enumerate(reqs[:num_extends]):
        wish = req.request.pooling
        if wish is not None and req.pooling is not None:
            specs[i] = PoolingSpec(
                pooling=req.pooling,
                normalize=wish.normalize,
                dimensions=wish.dimensions,
                is_last=not req.num_pending_prefill,
            )
    return specs
