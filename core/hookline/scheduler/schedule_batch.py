"""ScheduleBatch: requests as columns, and the ModelWorkerBatch that is made of them.

Shape letters: B requests, T tokens of a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import LogprobSpec, ModelWorkerBatch, PoolingSpec, SamplingRow

if TYPE_CHECKING:
    from hookline.batch.encoder_orders import MediaRun
    from hookline.scheduler.kv_ledger import TableUpdate
    from hookline.scheduler.req import Req

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(slots=True)
class ScheduleBatch:
    """The columns of B requests.

    Columns are replaced, never written in place: a pass that was launched still refers to them. What a request
    keeps while it decodes is looked up once, when it joins, and not in each step.
    """

    reqs: list[Req]
    rids: list[str]
    #: [B] ``Req.epoch``; it grows only when a request leaves.
    epochs: list[int]
    #: [B] row of each request in the request-to-slot table.
    rows: IntArray
    #: [B] tokens whose KV is there before the pass.
    prefix_lens: IntArray
    #: [B] tokens whose KV is there, or will be after the pass.
    seq_lens: IntArray
    #: [B] ``seq_len`` at which the last allowed token is sampled.
    end_lens: IntArray
    #: [B] adapter slot, 0 for the base model.
    adapters: IntArray
    #: [B] whether a grammar constrains the request.
    constrained: BoolArray
    #: [B] whether the request asks for log-probabilities.
    wants_logprobs: BoolArray
    #: [B] ``Req.position_delta``.
    position_deltas: IntArray

    @classmethod
    def of(cls, reqs: Sequence[Req], prefix_lens: Sequence[int] = (), seq_lens: Sequence[int] = ()) -> ScheduleBatch:
        """Columns of requests that hold rows; lengths default to none."""
        return cls(
            reqs=list(reqs),
            rids=[req.rid for req in reqs],
            epochs=[req.epoch for req in reqs],
            rows=np.array([req.row for req in reqs], dtype=np.int64),
            prefix_lens=np.array(prefix_lens or [0] * len(reqs), dtype=np.int64),
            seq_lens=np.array(seq_lens or [req.seq_len for req in reqs], dtype=np.int64),
            end_lens=np.array([req.end_len for req in reqs], dtype=np.int64),
            adapters=np.array([req.lora.slot if req.lora else 0 for req in reqs], dtype=np.int64),
            constrained=np.array([req.matcher is not None for req in reqs], dtype=np.bool_),
            wants_logprobs=np.array([req.request.logprobs is not None for req in reqs], dtype=np.bool_),
            position_deltas=np.array([req.position_delta for req in reqs], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.reqs)

    def filter(self, keep_B: BoolArray) -> None:
        """Keep the marked requests."""
        if keep_B.all():
            return
        kept = np.flatnonzero(keep_B).tolist()
        self.reqs = [self.reqs[i] for i in kept]
        self.rids = [self.rids[i] for i in kept]
        self.epochs = [self.epochs[i] for i in kept]
        self.rows = self.rows[keep_B]
        self.prefix_lens = self.prefix_lens[keep_B]
        self.seq_lens = self.seq_lens[keep_B]
        self.end_lens = self.end_lens[keep_B]
        self.adapters = self.adapters[keep_B]
        self.constrained = self.constrained[keep_B]
        self.wants_logprobs = self.wants_logprobs[keep_B]
        self.position_deltas = self.position_deltas[keep_B]

    def merge(self, other: ScheduleBatch) -> None:
        """Append another batch's requests."""
        self.reqs = self.reqs + other.reqs
        self.rids = self.rids + other.rids
        self.epochs = self.epochs + other.epochs
        self.rows = np.concatenate([self.rows, other.rows])
        self.prefix_lens = np.concatenate([self.prefix_lens, other.prefix_lens])
        self.seq_lens = np.concatenate([self.seq_lens, other.seq_lens])
        self.end_lens = np.concatenate([self.end_lens, other.end_lens])
        self.adapters = np.concatenate([self.adapters, other.adapters])
        self.constrained = np.concatenate([self.constrained, other.constrained])
        self.wants_logprobs = np.concatenate([self.wants_logprobs, other.wants_logprobs])
        self.position_deltas = np.concatenate([self.position_deltas, other.position_deltas])

    def advance(self) -> None:
        """One more token for every request."""
        self.prefix_lens = self.seq_lens
        self.seq_lens = self.seq_lens + 1

    def snapshot(self) -> ScheduleBatch:
        """The batch as it is now, whatever becomes of this one."""
        return ScheduleBatch(
            self.reqs,
            self.rids,
            self.epochs,
            self.rows,
            self.prefix_lens,
            self.seq_lens,
            self.end_lens,
            self.adapters,
            self.constrained,
            self.wants_logprobs,
            self.position_deltas,
        )


@dataclass(slots=True, kw_only=True)
class Pass:
    """One pass as planned and allocated: extending requests first, then decoding ones."""

    mode: ForwardMode
    batch: ScheduleBatch
    #: How many of the batch extend; the others decode.
    num_extends: int
    #: [T] slot of each token.
    out_cache_loc: IntArray
    #: [B] whether a token is sampled.
    samples: list[bool]
    #: [B] what is asked of log-probabilities; ``None`` when nothing is.
    logprobs: list[LogprobSpec | None] | None = None
    pooling: list[PoolingSpec | None] | None = None
    new_rows: list[SamplingRow] = field(default_factory=list)
    #: Indices into B whose sampling waits for a mask.
    constrained: list[int] = field(default_factory=list)
    num_retracted: int = 0
    #: Number of the pass; set when it is launched.
    step: int = 0

    def worker_batch(
        self, update: TableUpdate, position_planes: int, media: Sequence[MediaRun] = ()
    ) -> ModelWorkerBatch:
        """What the worker gets. The only place where a ModelWorkerBatch is made."""
        batch = self.batch
        starts = batch.prefix_lens
        counts = batch.seq_lens - starts
        ends = np.cumsum(counts)
        num_tokens = int(ends[-1])
        # Token t of request b stands at position prefix_lens[b] + (t - first token of b).
        positions = np.arange(num_tokens, dtype=np.int64) - np.repeat(ends - counts - starts, counts)
        if batch.position_deltas.any():
            positions += np.repeat(batch.position_deltas, counts)
        planes = np.tile(positions, (position_planes, 1))
        decodes = slice(self.num_extends, len(batch))
        input_ids = np.zeros(num_tokens, dtype=np.int64)
        place = 0
        for req, start, end in zip(
            batch.reqs[: self.num_extends], starts.tolist(), batch.seq_lens.tolist(), strict=False
        ):
            tokens = slice(place, place + end - start)
            input_ids[tokens] = req.input_ids(start, end)
            if req.media is not None:
                req.media.fill_positions(planes[:, tokens], start)
            place = tokens.stop
        return ModelWorkerBatch(
            step=self.step,
            mode=self.mode,
            rids=batch.rids,
            req_pool_indices=batch.rows,
            seq_lens=batch.seq_lens,
            prefix_lens=starts,
            input_ids=input_ids,
            # A decode's input is what the worker sampled last for the row: the host may not know it yet.
            future_index=ends[decodes] - 1,
            future_rows=batch.rows[decodes],
            positions=planes,
            out_cache_loc=self.out_cache_loc,
            table_rows=update.rows,
            table_cols=update.cols,
            table_slots=update.slots,
            samples=self.samples,
            new_rows=self.new_rows,
            freed_rows=update.freed_rows,
            adapters=batch.adapters.tolist() if batch.adapters.any() else None,
            logprobs=self.logprobs,
            pooling=self.pooling,
            constrained=self.constrained,
            media=list(media),
        )
