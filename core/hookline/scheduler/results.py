"""Results: what becomes of a pass once the worker has computed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hookline.errors import RequestError
from hookline.interfaces.scheduling import StepReport
from hookline.messages.outputs import FinishReason, TokenLogprob

if TYPE_CHECKING:
    from hookline.interfaces.worker import StepResult, TokenLogprobs
    from hookline.scheduler.finisher import Finisher
    from hookline.scheduler.jump_forward import JumpForward
    from hookline.scheduler.media import MediaHost
    from hookline.scheduler.outbox import Outbox
    from hookline.scheduler.recovery import Recovery
    from hookline.scheduler.req import Req
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.schedule_batch import Pass
    from hookline.scheduler.stats import Counters
    from hookline.scheduler.stops import StopChecker


class Results:
    """Appends tokens, ends requests, and hands out what there is to send."""

    def __init__(
        self,
        roster: Roster,
        media: MediaHost,
        finisher: Finisher,
        stops: StopChecker,
        outbox: Outbox,
        counters: Counters,
        recovery: Recovery,
        jumps: JumpForward | None = None,
    ) -> None:
        self._roster = roster
        self._media = media
        self._finisher = finisher
        self._stops = stops
        self._outbox = outbox
        self._counters = counters
        self._recovery = recovery
        self._jumps = jumps

    def process(self, a_pass: Pass, result: StepResult) -> StepReport:
        """Take in the results of a pass.

        A request of an older epoch was retracted or has ended since the launch: its token is dropped, and
        sampled again if the request comes back.
        """
        num_before = len(self._roster)
        for req, what in self._media.failed(result.media_faults, a_pass.step):
            self._fault(req, what)
        if result.out_of_memory:
            return self._give_up(a_pass, result.out_of_memory, num_before)
        faults, embeddings = result.faults, result.embeddings
        num_extends, samples = a_pass.num_extends, a_pass.samples
        num_new = 0
        for i, (req, epoch) in enumerate(zip(a_pass.batch.reqs, a_pass.batch.epochs, strict=True)):
            if req.epoch != epoch:
                continue
            if faults and i in faults:
                self._fault(req, faults[i])
                continue
            if i < num_extends:
                _take_input_logprobs(req, a_pass, result, i)
            if samples[i]:
                num_new += self._take_tokens(req, result, i)
            elif a_pass.batch.seq_lens[i] >= req.prefill_len and not req.samples:
                if embeddings is not None and req.pooling is not None:
                    req.embedding = embeddings[i]
                self._finisher.finish(req, _prefill_only_reason(req))
        self._counters.generated_tokens += num_new
        self._roster.sweep()
        num_left = len(self._roster)
        return StepReport(
            mode=a_pass.mode.value,
            num_retracted=a_pass.num_retracted,
            num_finished=num_before - num_left,
            is_idle=not num_left,
        )

    def _give_up(self, a_pass: Pass, what: str, num_before: int) -> StepReport:
        num_retracted = self._recovery.recover(a_pass, what)
        return StepReport(
            mode=a_pass.mode.value,
            num_retracted=a_pass.num_retracted + num_retracted,
            num_finished=num_before - len(self._roster),
            is_idle=not len(self._roster),
        )

    def _take_tokens(self, req: Req, result: StepResult, index: int) -> int:
        """Returns how many, with those that a grammar forces behind them."""
        output_ids = req.output_ids
        first = len(output_ids)
        reason = self._stops.append(req, result.token_ids[index])
        num_new = len(output_ids) - first
        if result.output_logprobs is not None and req.decode_logprobs is not None:
            found = result.output_logprobs[index]
            if found is not None:
                req.output_logprobs.extend(_logprob(entry) for entry in found[:num_new])
        if self._jumps is not None and reason is None and req.matcher is not None:
            reason = self._jumps.follow(req)
            num_new = len(output_ids) - first
        if reason is not None:
            self._finisher.finish(req, reason)
        elif req.request.stream and (not req.num_sent or req.num_sendable - req.num_sent >= req.stream_interval):
            # Counted since the last message, not by remainder: a step may bring several tokens.
            self._outbox.add(req)
        return num_new

    def _fault(self, req: Req, what: str) -> None:
        """The worker computed nothing usable for this request; its KV is not worth keeping."""
        message = f"the model gave no usable output for this request: {what}"
        self._finisher.fail(req, RequestError(message, code="unusable_output", status_code=500), keep=False)


def _take_input_logprobs(req: Req, a_pass: Pass, result: StepResult, index: int) -> None:
    spec = a_pass.logprobs[index] if a_pass.logprobs is not None else None
    wish = req.request.logprobs
    if spec is None or spec.input_start is None or wish is None:
        return
    found = result.input_logprobs[index] if result.input_logprobs is not None else None
    if req.num_unscored:
        scores = (found or [])[: len(spec.input_targets)]
        req.output_logprobs.extend(map(_logprob, scores))
        req.num_unscored -= len(scores)
        return
    if wish.input_start == 0 and not req.input_logprobs:
        # Nothing comes before the first token, so it has no probability.
        req.input_logprobs.append(TokenLogprob(None, req.request.input_ids[0]))
    if found is not None:
        req.input_logprobs.extend(_logprob(entry) for entry in found[: len(spec.input_targets)])


def _prefill_only_reason(req: Req) -> FinishReason:
    return FinishReason(type="stop" if req.pooling is not None else "length")


def _logprob(entry: TokenLogprobs) -> TokenLogprob:
    return TokenLogprob(entry.logprob, entry.token_id, entry.top, entry.chosen)
