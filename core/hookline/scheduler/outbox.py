"""Outbox: collects what a step has to say and sends it as columns, one message per step."""

from __future__ import annotations

from collections.abc import Callable
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
        reqs, refused = list(self._reqs), self._refused
        self._reqs, self._refused = {}, []
        vectors = [req for req in reqs if req.pooling is not None]
        if vectors:
            reqs = [req for req in reqs if req.pooling is None]
        refused_vectors = [entry for entry in refused if entry[0].pooling is not None]
        if refused_vectors:
            refused = [entry for entry in refused if entry[0].pooling is None]
        if reqs or refused:
            self._sender.send(_token_output(reqs, refused))
        if vectors or refused_vectors:
            self._sender.send(_embedding_output(vectors, refused_vectors))


#: A request that was never accepted, and what to tell its client.
_Refusal = tuple["TokenizedRequest", FinishReason]


def _token_output(reqs: list[Req], refused: list[_Refusal]) -> BatchTokenOutput:
    """What was not sent yet of each request; notes in the requests that it is sent."""
    starts = [_start(req.request) for req in reqs if not req.was_announced]
    starts += [_start(request) for request, _ in refused]
    has_logprobs = any(req.request.logprobs is not None for req in reqs)
    output = BatchTokenOutput(
        rids=[req.request.rid for req in reqs] + [request.rid for request, _ in refused],
        token_ids=[req.output_ids[req.num_sent : req.num_sendable] for req in reqs] + [[] for _ in refused],
        finish_reasons=[req.finish_reason for req in reqs] + [reason for _, reason in refused],
        stats=[_stats(req) for req in reqs] + [_refused_stats(request) for request, _ in refused],
        starts=starts,
        output_logprobs=_column(reqs, refused, _output_logprobs) if has_logprobs else [],
        input_logprobs=_column(reqs, refused, _input_logprobs) if has_logprobs else [],
    )
    for req in reqs:
        req.was_announced = True
        req.num_sent = req.num_sendable
    return output


def _embedding_output(reqs: list[Req], refused: list[_Refusal]) -> BatchEmbeddingOutput:
    return BatchEmbeddingOutput(
        rids=[req.rid for req in reqs] + [request.rid for request, _ in refused],
        embeddings=[req.embedding or [] for req in reqs] + [[] for _ in refused],
        finish_reasons=[req.finish_reason for req in reqs] + [reason for _, reason in refused],
        stats=[_stats(req) for req in reqs] + [_refused_stats(request) for request, _ in refused],
    )


def _output_logprobs(req: Req) -> list[TokenLogprob] | None:
    """Those of the unsent tokens; they are taken out of the request."""
    wish = req.request.logprobs
    if wish is None or not wish.output:
        return None
    found, req.output_logprobs = req.output_logprobs, []
    return found


def _input_logprobs(req: Req) -> list[TokenLogprob] | None:
    """All prompt log-probabilities as soon as they are there, once; they are taken out of the request."""
    wish = req.request.logprobs
    if wish is None or wish.input_start is None or req.input_logprobs_sent or not req.has_input_logprobs:
        return None
    req.input_logprobs_sent = True
    found, req.input_logprobs = req.input_logprobs, []
    return found


def _stats(req: Req) -> RequestStats:
    media = req.media
    return RequestStats(
        req.num_prompt_tokens,
        req.cached_tokens,
        req.num_sendable,
        req.num_retractions,
        req.queue_time,
        0 if media is None else len(media.items),
        0 if media is None else media.num_reused,
    )


def _refused_stats(request: TokenizedRequest) -> RequestStats:
    return RequestStats(len(request.input_ids), 0, 0)


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


def _column(
    reqs: list[Req], refused: list[_Refusal], take: Callable[[Req], list[TokenLogprob] | None]
) -> list[list[TokenLogprob] | None]:
    """What ``take`` gives of each; empty when it gives nothing of any."""
    values = [*(take(req) for req in reqs), *(None for _ in refused)]
    return values if any(value is not None for value in values) else []
