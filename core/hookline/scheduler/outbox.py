"""Outbox: collects what a step has to say and sends it as columns, one message per step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hookline.messages.outputs import (
    BatchEmbeddingOutput,
    BatchTokenOutput,
    DetokenizeStart,
    FinishReason,
    RequestStats,
    TokenLogprob,
)

if TYPE_CHECKING:
    from hookline.errors import RequestError
    from hookline.messages.requests import TokenizedRequest
    from hookline.messages.transport import Sender
    from hookline.scheduler.req import Req

#: Prompt tokens that the detokenizer gets for context: a character takes four tokens at most.
_TAIL_TOKENS = 8


class Outbox:
    """What goes to the detokenizer and the frontend."""

    def __init__(self, sender: Sender[Any]) -> None:
        self._sender = sender
        self._clear()

    def _clear(self) -> None:
        self._rids: list[str] = []
        self._token_ids: list[list[int]] = []
        self._reasons: list[FinishReason | None] = []
        self._stats: list[RequestStats] = []
        self._starts: list[DetokenizeStart] = []
        self._output_logprobs: list[list[TokenLogprob] | None] = []
        self._input_logprobs: list[list[TokenLogprob] | None] = []
        self._embeddings: list[tuple[str, list[float], FinishReason | None, RequestStats]] = []

    def add(self, req: Req) -> None:
        """Send what the request has: unsent tokens, its end, its vector."""
        stats = RequestStats(
            req.num_prompt_tokens, req.cached_tokens, len(req.output_ids), req.num_retractions, req.queue_time
        )
        if req.pooling is not None:
            self._embeddings.append((req.rid, req.embedding or [], req.finish_reason, stats))
            return
        if not req.was_announced:
            req.was_announced = True
            self._starts.append(_start(req.request))
        output_logprobs, req.output_logprobs = req.output_logprobs, []
        input_logprobs = None
        if not req.input_logprobs_sent and req.has_input_logprobs:
            req.input_logprobs_sent = True
            input_logprobs, req.input_logprobs = req.input_logprobs, []
        wish = req.request.logprobs
        self._rids.append(req.rid)
        self._token_ids.append(req.output_ids[req.num_sent :])
        self._reasons.append(req.finish_reason)
        self._stats.append(stats)
        self._output_logprobs.append(output_logprobs if wish is not None and wish.output else None)
        self._input_logprobs.append(input_logprobs if wish is not None and wish.input_start is not None else None)
        req.num_sent = len(req.output_ids)

    def refuse(self, request: TokenizedRequest, error: RequestError) -> None:
        """Send the end of a request that was never accepted."""
        reason = abort_reason(error)
        stats = RequestStats(len(request.input_ids), 0, 0)
        if request.pooling is not None:
            self._embeddings.append((request.rid, [], reason, stats))
            return
        self._starts.append(_start(request))
        self._rids.append(request.rid)
        self._token_ids.append([])
        self._reasons.append(reason)
        self._stats.append(stats)
        self._output_logprobs.append(None)
        self._input_logprobs.append(None)

    def send(self, message: Any) -> None:
        """Send something else, after what was added before."""
        self.flush()
        self._sender.send(message)

    def flush(self) -> None:
        """Send what was added."""
        if self._rids:
            self._sender.send(
                BatchTokenOutput(
                    rids=self._rids,
                    token_ids=self._token_ids,
                    finish_reasons=self._reasons,
                    stats=self._stats,
                    starts=self._starts,
                    output_logprobs=_column(self._output_logprobs),
                    input_logprobs=_column(self._input_logprobs),
                )
            )
        if self._embeddings:
            rids, vectors, reasons, stats = zip(*self._embeddings, strict=True)
            self._sender.send(
                BatchEmbeddingOutput(
                    rids=list(rids), embeddings=list(vectors), finish_reasons=list(reasons), stats=list(stats)
                )
            )
        if self._rids or self._embeddings:
            self._clear()


def abort_reason(error: RequestError) -> FinishReason:
    """The finish reason that tells a client of an error."""
    return FinishReason(
        type="abort", message=str(error), status_code=error.status_code, code=error.code, param=error.param or ""
    )


def prompt_tail(request: TokenizedRequest) -> list[int]:
    """The last prompt tokens, which decide how the first output tokens are spelled."""
    return request.input_ids[-_TAIL_TOKENS:]


def _start(request: TokenizedRequest) -> DetokenizeStart:
    params = request.sampling_params
    return DetokenizeStart(
        rid=request.rid,
        prompt_tail=prompt_tail(request),
        skip_special_tokens=params.skip_special_tokens,
        spaces_between_special_tokens=params.spaces_between_special_tokens,
        no_stop_trim=params.no_stop_trim,
        stop=params.stop,
        stop_regex=params.stop_regex,
    )


def _column(values: list[list[TokenLogprob] | None]) -> list[list[TokenLogprob] | None]:
    return values if any(value is not None for value in values) else []
