"""Requests from the tokenizer manager to the scheduler."""

from __future__ import annotations

import msgspec

from hookline.sampling_params import SamplingParams


class CacheNamespace(msgspec.Struct, frozen=True, kw_only=True):
    """Requests share prefixes only inside one namespace. Structured, so that parts cannot collide."""

    salt: str = ""
    extra_key: str = ""
    #: Immutable id of the loaded adapter (not its name); "" is the base model.
    adapter: str = ""
    #: Grows with every weight update, so that old KV never meets new weights.
    weight_version: int = 0


class LogprobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Log-probabilities that a request wants."""

    #: For output tokens.
    output: bool = True
    #: The so many best beside each token.
    top: int = 0
    token_ids: tuple[int, ...] = ()
    #: Prompt log-probabilities from this position; ``None``: none.
    input_start: int | None = None


class PoolingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an embedding request wants."""

    #: Name of a pooler; ``None``: the model's own.
    pooling: str | None = None
    normalize: bool = True
    dimensions: int | None = None


class TokenizedRequest(msgspec.Struct, frozen=True, kw_only=True, tag="request"):
    """One choice of one prompt, ready for the scheduler. ``pooling`` makes it an embedding request."""

    rid: str
    input_ids: list[int]
    sampling_params: SamplingParams
    stream: bool = False
    choice_index: int = 0
    logprobs: LogprobRequest | None = None
    pooling: PoolingRequest | None = None
    priority: int = 0
    namespace: CacheNamespace = CacheNamespace()
    #: Name of the adapter, or ``None`` for the base model.
    lora: str | None = None
    #: time.time() of the receipt by the server; for metrics only.
    received_at: float = 0.0
    #: Typed extension slots: index -> msgspec-encoded value.
    extras: dict[int, bytes] = {}


class AbortReq(msgspec.Struct, frozen=True, kw_only=True, tag="abort"):
    """Cancel requests by exact id, or all of them."""

    rids: list[str] = []
    all: bool = False
    reason: str = "aborted by the client"
