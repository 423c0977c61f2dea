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
        #: In the order in which they came up; one entry each, however often a step has something to say of one.
        self._reqs: dict[Req, None] = {}
        self._refused: list[tuple[TokenizedRequest, FinishReason]] = []

    def add(self, req: Req) -> None:
        """Send what the request has at the end of the step: unsent tokens, its end, its vector."""
        self._reqs[req] = None

    def refuse(self, request: TokenizedRequest, error: RequestError) -> None:
        """Send the end of a request that was never accepted."""
        self._refused.append((request, abort_reason(error)))

    def send(self, message: Any) -> None:
        """Send something else, after what was added before."""
        self.flush()
        self._sender.send(message)

    def flush(self) -> None:
        """Send what was added."""
        if not self._reqs and not self._refused:
            return
        tokens, vectors = _TokenColumns(), _VectorColumns()
        for req in self._reqs:
            if req.pooling is not None:
                vectors.add(req.rid, req.embedding or [], req.finish_reason, _stats(req))
            else:
                tokens.add_req(req)
        for request, reason in self._refused:
            stats = RequestStats(len(request.input_ids), 0, 0)
            if request.pooling is not None:
                vectors.add(request.rid, [], reason, stats)
            else:
                tokens.add(request, [], reason, stats, is_first=True)
        self._reqs, self._refused = {}, []
        if tokens.rids:
            self._sender.send(tokens.message())
        if vectors.rids:
            self._sender.send(vectors.message())


class _TokenColumns:
    """A BatchTokenOutput being put together."""

    def __init__(self) -> None:
        self.rids: list[str] = []
        self._token_ids: list[list[int]] = []
        self._reasons: list[FinishReason | None] = []
        self._stats: list[RequestStats] = []
        self._starts: list[DetokenizeStart] = []
        self._output_logprobs: list[list[TokenLogprob] | None] = []
        self._input_logprobs: list[list[TokenLogprob] | None] = []

    def add(
        self,
        request: TokenizedRequest,
        token_ids: list[int],
        reason: FinishReason | None,
        stats: RequestStats,
        *,
        is_first: bool,
    ) -> None:
        if is_first:
            self._starts.append(_start(request))
        self.rids.append(request.rid)
        self._token_ids.append(token_ids)
        self._reasons.append(reason)
        self._stats.append(stats)
        self._output_logprobs.append(None)
        self._input_logprobs.append(None)

    def add_req(self, req: Req) -> None:
        """Take what was not sent yet, and note in the request that it is sent."""
        is_first = not req.was_announced
        self.add(req.request, req.output_ids[req.num_sent :], req.finish_reason, _stats(req), is_first=is_first)
        req.was_announced = True
        req.num_sent = len(req.output_ids)
        wish = req.request.logprobs
        if wish is None:
            return
        if wish.output:
            self._output_logprobs[-1], req.output_logprobs = req.output_logprobs, []
        if wish.input_start is not None and not req.input_logprobs_sent and req.has_input_logprobs:
            req.input_logprobs_sent = True
            self._input_logprobs[-1], req.input_logprobs = req.input_logprobs, []

    def message(self) -> BatchTokenOutput:
        return BatchTokenOutput(
            rids=self.rids,
            token_ids=self._token_ids,
            finish_reasons=self._reasons,
            stats=self._stats,
            starts=self._starts,
            output_logprobs=_column(self._output_logprobs),
            input_logprobs=_column(self._input_logprobs),
        )


class _VectorColumns:
    """A BatchEmbeddingOutput being put together."""

    def __init__(self) -> None:
        self.rids: list[str] = []
        self._embeddings: list[list[float]] = []
        self._reasons: list[FinishReason | None] = []
        self._stats: list[RequestStats] = []

    def add(self, rid: str, embedding: list[float], reason: FinishReason | None, stats: RequestStats) -> None:
        self.rids.append(rid)
        self._embeddings.append(embedding)
        self._reasons.append(reason)
        self._stats.append(stats)

    def message(self) -> BatchEmbeddingOutput:
        return BatchEmbeddingOutput(
            rids=self.rids, embeddings=self._embeddings, finish_reasons=self._reasons, stats=self._stats
        )


def _stats(req: Req) -> RequestStats:
    return RequestStats(
        req.num_prompt_tokens, req.cached_tokens, len(req.output_ids), req.num_retractions, req.queue_time
    )


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
