"""Worker: what the scheduler drives. Core's own lives in ``hookline.worker``; tests use a fake device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from hookline.batch.encoder_orders import EncoderOrders
    from hookline.batch.worker_batch import ModelWorkerBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """What the scheduler needs to know of the device and the model."""

    max_total_tokens: int
    max_running_requests: int
    max_context_len: int
    page_size: int
    vocab_size: int
    position_planes: int
    #: name -> bytes of the memory ledger: weights, kv, activations, rest.
    memory_ledger: dict[str, int] = field(default_factory=dict)
    device: str = "cpu"
    #: Bytes of one embedding row of media; 0 for a model that takes text only.
    embedding_row_bytes: int = 0
    #: Bytes for embedding rows on the device, and in the host's memory behind it.
    embedding_cache_bytes: int = 0
    embedding_host_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class TokenLogprobs:
    """Log-probabilities of one token: natural logarithms."""

    token_id: int
    logprob: float
    #: The best tokens, best first: (id, logprob).
    top: list[tuple[int, float]] = field(default_factory=list)
    #: The asked-for ids: (id, logprob).
    chosen: list[tuple[int, float]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class StepResult:
    """Host results of one pass over B requests."""

    #: [B] new tokens of each request; empty where nothing was sampled. Ragged: a step may yield several.
    token_ids: list[list[int]]
    #: [B][num_new] or ``None`` where not asked.
    output_logprobs: list[list[TokenLogprobs] | None] | None = None
    #: [B][tokens of this pass from ``input_start``] prompt log-probabilities, or ``None``.
    input_logprobs: list[list[TokenLogprobs] | None] | None = None
    #: [B] pooled vector on the last chunk of an embedding request, else ``None``.
    embeddings: list[list[float] | None] | None = None
    #: Requests (indices into B) that this pass gave nothing usable for (logits that are not finite, a processor
    #: or pooler that failed), with what was seen. They end; the others go on.
    faults: dict[int, str] = field(default_factory=dict)
    #: What the device said when it had no memory for the pass: then nothing of it is usable, KV included, and the
    #: worker is as if it had not been launched. "": all went well.
    out_of_memory: str = ""
    #: Digests of items whose rows the pass should have placed and that could not be encoded, with what was seen. What
    #: the pass computed of their requests, and of all that share a prefix with them, is worthless.
    media_faults: dict[bytes, str] = field(default_factory=dict)


class Step(Protocol):
    """A pass that was launched."""

    def sample(self, bitmask_BW: npt.NDArray[np.int32] | None = None) -> None:
        """Sample a pass with ``constrained`` requests, now that their masks are known.

        ``bitmask_BW`` has a row for each index in ``batch.constrained``, in that order. Passes without
        constrained requests are sampled by ``launch`` and this must not be called.
        """

    def result(self) -> StepResult:
        """Wait for the pass and give its host results. Called once, from the scheduler's thread."""


class Worker(Protocol):
    """One rank's device. All calls come from the scheduler's thread."""

    @property
    def info(self) -> WorkerInfo: ...

    def launch(self, batch: ModelWorkerBatch) -> Step:
        """Start a pass and return at once. Passes run in the order of their launch; a pass may be launched
        before the result of the one before was read (``future_index`` makes that possible)."""
        ...

    def encode(self, orders: EncoderOrders) -> None:
        """Move, drop and make embedding rows of media. Returns at once; runs in order with the passes.

        An item that cannot be encoded is told of by the passes that place its rows (``StepResult.media_faults``).
        """
        ...

    def load_adapter(self, slot: int, name: str, path: Path) -> None: ...
    def unload_adapter(self, slot: int) -> None: ...
    def update_weights(self, path: Path) -> None:
        """Replace the weights from a checkpoint of the same architecture; on failure the old ones stay."""

    def release_memory(self, tags: Iterable[str]) -> None:
        """Give back the memory of "kv" or "weights"; the engine must be idle."""

    def resume_memory(self, tags: Iterable[str]) -> None: ...
    def close(self) -> None: ...
