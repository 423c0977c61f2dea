"""Requests from the tokenizer manager to the scheduler."""

from __future__ import annotations

from typing import Any

import msgspec

from hookline.interfaces.parsers import ReasoningSpan
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


class MediaTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One array of a medium: in a segment of shared memory, or as it is within one process."""

    name: str
    #: numpy's word: "uint8", "float32", "int64".
    dtype: str
    shape: tuple[int, ...]
    #: Name of the segment (``multiprocessing.shared_memory``) and the array's first byte in it, C order.
    segment: str = ""
    offset: int = 0
    #: The array itself where both ends are one process; then there is no segment. Never on the wire.
    data: Any = None


class MediaItem(msgspec.Struct, frozen=True, kw_only=True):
    """What the encoder takes in one piece; see ``hookline.interfaces.multimodal.ProcessedItem``."""

    kind: str
    #: 32 bytes, SHA-256 over the raw bytes, the processing key and the run of frames: equal digests, equal rows.
    digest: bytes
    #: Runs (start, length) of the item's placeholders in the prompt, ascending.
    spans: list[tuple[int, int]]
    grid: tuple[int, ...]
    #: Rows that the encoder yields; the lengths of ``spans`` add up to it.
    num_rows: int
    #: Encoder work in patches.
    cost: int
    tensors: list[MediaTensor]


class MultimodalInputs(msgspec.Struct, frozen=True, kw_only=True):
    """The media of a request, in the order of their places in the prompt.

    The sender owns the segments. The scheduler reads them until it has sent the last output of the request (of each
    choice, where several share them); then, and not before, the sender may free or reuse them.
    """

    items: list[MediaItem]
    #: int64 [P, T] in C order, little-endian; empty where positions count tokens.
    positions: bytes = b""
    #: Position of the token after the prompt, less the length of the prompt.
    position_delta: int = 0


class TokenizedRequest(msgspec.Struct, frozen=True, kw_only=True, tag="request"):
    """One choice of one prompt, ready for the scheduler. ``pooling`` makes it an embedding request."""

    rid: str
    input_ids: list[int]
    sampling_params: SamplingParams
    stream: bool = False
    choice_index: int = 0
    logprobs: LogprobRequest | None = None
    pooling: PoolingRequest | None = None
    #: Where the reasoning stands, behind which a grammar begins, and which ``max_thinking_tokens`` bounds.
    reasoning: ReasoningSpan | None = None
    priority: int = 0
    namespace: CacheNamespace = CacheNamespace()
    #: Pictures and the like; ``input_ids`` hold the model's placeholder token once for each embedding row.
    multimodal: MultimodalInputs | None = None
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
