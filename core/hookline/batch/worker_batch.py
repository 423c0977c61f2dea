"""ModelWorkerBatch: one pass as the scheduler describes it. Host data only, no tensors, no pools.

The scheduler never touches the device. It keeps the request-to-slot table and all lengths on the host
and sends what changed; the worker applies the changes to the device table and builds a ForwardBatch.

Shape letters: B requests of the pass, T tokens of the pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hookline.batch.encoder_orders import MediaRun
    from hookline.batch.forward_mode import ForwardMode
    from hookline.sampling_params import SamplingParams

    IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRow:
    """Sampling state that the worker sets up for a request row; sent in every pass whose chunk is the first
    of a (re)started request. Penalty counts and seeds are rebuilt from it, so retraction loses nothing."""

    row: int
    params: SamplingParams
    #: Which of the ``n`` choices of its prompt this request is; part of the seed.
    choice_index: int
    prompt_ids: tuple[int, ...]
    #: Output tokens so far; not empty after a retraction.
    output_ids: tuple[int, ...]
    #: Tokens that end a request and that ``min_new_tokens`` must therefore hold back.
    end_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobSpec:
    """Log-probabilities that one request of a pass wants."""

    #: Log-probability of the sampled token, and of the ``top`` best and the ``token_ids`` beside it.
    output: bool
    top: int = 0
    token_ids: tuple[int, ...] = ()
    #: Prompt log-probabilities for the pass's tokens from this offset into its extend; ``None``: none.
    #: ``input_targets`` holds, per such token, the id that follows it in the prompt. The prompt's last token
    #: has none, so that ``len(input_targets)`` tokens are meant; it may be 0.
    input_start: int | None = None
    input_targets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingSpec:
    """What an embedding request wants pooled; ``is_last`` on its final chunk."""

    pooling: str
    normalize: bool
    dimensions: int | None
    is_last: bool


@dataclass(slots=True, kw_only=True)
class ModelWorkerBatch:
    """One pass over B requests and T tokens."""

    #: Counts passes; for logs and checks.
    step: int
    mode: ForwardMode
    rids: list[str]
    #: [B] row of each request in the request-to-slot table.
    req_pool_indices: IntArray
    #: [B] length including the tokens of this pass.
    seq_lens: IntArray
    #: [B] tokens whose KV is there already; seq_lens - prefix_lens tokens are computed.
    prefix_lens: IntArray
    #: [T] ids of the vocabulary; entries at ``future_index`` are read from the worker's table of sampled tokens
    #: instead, and where ``media`` is placed the id is that of the model's placeholder.
    input_ids: IntArray
    #: [F] places in ``input_ids`` whose id is the token last sampled for ``future_rows``.
    future_index: IntArray
    #: [F] request rows of those places.
    future_rows: IntArray
    #: [P, T] position planes (P = 1, or 3 for M-RoPE).
    positions: IntArray
    #: [T] slot in the KV pool for each token of the pass.
    out_cache_loc: IntArray
    #: Table writes beyond this pass's own tokens (prefix hits): rows [W], columns [W], slots [W].
    table_rows: IntArray
    table_cols: IntArray
    table_slots: IntArray
    #: [B] whether a token is sampled for the request; false for chunks that are not the last.
    samples: list[bool]
    #: Rows whose sampling state is set up before this pass is sampled.
    new_rows: list[SamplingRow] = field(default_factory=list)
    #: Rows that were given back since the last pass. Applied before ``new_rows`` and the table writes, since a
    #: row may have a new owner already.
    freed_rows: list[int] = field(default_factory=list)
    #: [B] adapter slot or 0 for the base model; ``None`` when no request of the pass has an adapter.
    adapters: list[int] | None = None
    #: [B] log-probability wishes; ``None`` when nobody wants any.
    logprobs: list[LogprobSpec | None] | None = None
    #: [B] pooling wishes; ``None`` for generation.
    pooling: list[PoolingSpec | None] | None = None
    #: Indices into B of requests under a grammar: sampling waits for their masks (``Worker.sample``).
    constrained: list[int] = field(default_factory=list)
    #: Embedding rows that take the place of embeddings of this pass's tokens, ascending by place.
    media: list[MediaRun] = field(default_factory=list)
    #: Typed extension slots: index -> value per request.
    extras: dict[int, list[Any]] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """B."""
        return len(self.rids)

    @property
    def num_tokens(self) -> int:
        """T."""
        return int(self.input_ids.shape[0])
