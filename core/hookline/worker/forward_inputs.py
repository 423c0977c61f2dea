"""ForwardInputs: from a ModelWorkerBatch to the tensors of one pass.

The host half (``ForwardInputs``) puts everything into the pass's pack; the device half (``tensors``) finds
it again. Shape letters: B requests, T tokens, S sampled rows, P position planes, W table writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.worker.packing import HostPack

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardTensors:
    """One pass on the device; int64 throughout."""

    input_ids: torch.Tensor
    #: [P, T].
    positions: torch.Tensor
    req_pool_indices: torch.Tensor
    seq_lens: torch.Tensor
    prefix_lens: torch.Tensor
    out_cache_loc: torch.Tensor
    #: [F] places in ``input_ids`` that are read from the token table, and the rows to read.
    future_index: torch.Tensor
    future_rows: torch.Tensor
    #: [W] writes into the request-to-slot table.
    table_rows: torch.Tensor
    table_cols: torch.Tensor
    table_slots: torch.Tensor
    #: [S] rows of T whose logits are sampled; and their requests: index into B.
    logits_index: torch.Tensor
    sampled_index: torch.Tensor


class ForwardInputs:
    """The host half of one pass; fixed when made."""

    def __init__(self, batch: ModelWorkerBatch, pack: HostPack) -> None:
        extend_lens = batch.seq_lens - batch.prefix_lens
        ends = np.cumsum(extend_lens)
        #: [B] first token of each request.
        self.starts: IntArray = ends - extend_lens
        #: [S] index into B of the requests that get a token.
        self.sampled: IntArray = np.flatnonzero(np.asarray(batch.samples, dtype=bool))
        self.seq_lens_cpu: list[int] = batch.seq_lens.tolist()
        self.prefix_lens_cpu: list[int] = batch.prefix_lens.tolist()
        self.extend_lens_cpu: list[int] = extend_lens.tolist()
        # A token's column in the table is its place in the sequence, which position planes need not tell.
        cols = np.arange(batch.num_tokens, dtype=np.int64) - np.repeat(self.starts - batch.prefix_lens, extend_lens)
        rows = np.repeat(batch.req_pool_indices, extend_lens)
        if batch.table_rows.size:
            rows = np.concatenate([batch.table_rows, rows])
            cols = np.concatenate([batch.table_cols, cols])
            slots = np.concatenate([batch.table_slots, batch.out_cache_loc])
        else:
            slots = batch.out_cache_loc
        places = (
            batch.input_ids,
            batch.positions,
            batch.req_pool_indices,
            batch.seq_lens,
            batch.prefix_lens,
            batch.out_cache_loc,
            batch.future_index,
            batch.future_rows,
            rows,
            cols,
            slots,
            ends[self.sampled] - 1,
            self.sampled,
        )
        self._places = [pack.put(array) for array in places]

    def tensors(self, tensors: Sequence[torch.Tensor]) -> ForwardTensors:
        """The pass on the device, from the tensors of the pack."""
        return ForwardTensors(
            **dict(zip(ForwardTensors.__dataclass_fields__, (tensors[place] for place in self._places), strict=True))
        )
