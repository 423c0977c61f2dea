"""Outputs from the scheduler through the detokenizer to the tokenizer manager. One message per step, in columns."""

from __future__ import annotations

import msgspec


class FinishReason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request ended. ``type`` is "stop", "length" or "abort"."""

    type: str
    #: The token id, stop string or regex match that ended it; ``None`` for a complete grammar.
    matched: int | str | None = None
    #: For "abort": what to tell the client, and the HTTP status and code.
    message: str = ""
    status_code: int = 200
    code: str = ""
    #: For "abort": the request field at fault, or "".
    param: str = ""


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """(logprob, id, top [(id, logprob)], chosen [(id, logprob)]); ``logprob`` is None for a prompt's first token."""

    logprob: float | None
    token_id: int
    top: list[tuple[int, float]] = []
    chosen: list[tuple[int, float]] = []


class DetokenizeStart(msgspec.Struct, frozen=True, kw_only=True):
    """What the detokenizer must know of a request, sent with its first output."""

    rid: str
    #: The last prompt tokens, for context (spaces, partial characters).
    prompt_tail: list[int]
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    no_stop_trim: bool = False
    stop: tuple[str, ...] = ()
    stop_regex: tuple[str, ...] = ()


class RequestStats(msgspec.Struct, frozen=True, array_like=True):
    """Counts and times of one request so far."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    num_retractions: int = 0
    #: Seconds from receipt to the first pass that held it; 0 until then.
    queue_time: float = 0.0
    #: Items of media (pictures, runs of frames), and of those the ones that were not encoded for this request.
    media_items: int = 0
    media_reused: int = 0


class BatchTokenOutput(msgspec.Struct, frozen=True, kw_only=True, tag="tokens"):
    """Scheduler -> detokenizer. Columns of equal length, one entry per request that has something to send."""

    rids: list[str]
    #: Tokens since the last message of the request.
    token_ids: list[list[int]]
    finish_reasons: list[FinishReason | None]
    stats: list[RequestStats]
    starts: list[DetokenizeStart] = []
    #: Empty, or one entry per request: log-probabilities of ``token_ids``.
    output_logprobs: list[list[TokenLogprob] | None] = []
    #: Empty, or one entry per request: all prompt log-probabilities, sent once.
    input_logprobs: list[list[TokenLogprob] | None] = []


class BatchEmbeddingOutput(msgspec.Struct, frozen=True, kw_only=True, tag="embeddings"):
    """Scheduler -> tokenizer manager (the detokenizer passes it on)."""

    rids: list[str]
    embeddings: list[list[float]]
    finish_reasons: list[FinishReason | None]
    stats: list[RequestStats]


class BatchTextOutput(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """Detokenizer -> tokenizer manager. ``texts`` are deltas; their concatenation is the whole text."""

    rids: list[str]
    texts: list[str]
    token_ids: list[list[int]]
    finish_reasons: list[FinishReason | None]
    stats: list[RequestStats]
    output_logprobs: list[list[TokenLogprob] | None] = []
    input_logprobs: list[list[TokenLogprob] | None] = []
