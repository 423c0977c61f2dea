"""DecodeInputs: what the host says of a decode that is replayed, in one block that travels in one copy.

Shape letters: B requests, S places of the graph (B and padding), P position planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.platform import Platform

IntArray = npt.NDArray[np.int64]

#: Rows of the block before the position planes: ids, request rows, lengths, prefix lengths, slots.
_ROWS = 5
#: Stands for the token that was sampled last.
LAST_TOKEN = -1


def num_words(size: int, position_planes: int) -> int:
    """Words of eight bytes of the block of so many places."""
    return (_ROWS + position_planes) * size


class DecodeInputs:
    """The host half of a replay; fixed when made."""

    def __init__(
        self, batch: ModelWorkerBatch, size: int, position_planes: int, pad_row: int, platform: Platform
    ) -> None:
        self.count = batch.batch_size
        self.size = size
        #: [B] index into B of the requests that get a token, and of each its first token in the pass.
        self.sampled: IntArray = np.arange(self.count, dtype=np.int64)
        self.starts: IntArray = self.sampled
        self.words = platform.host_buffer((num_words(size, position_planes),), torch.int64)
        block = self.words.numpy().reshape(_ROWS + position_planes, size)
        #: [S] lengths, 1 for padding.
        self.seq_lens: IntArray = block[2]
        count = self.count
        if count < size:
            block[:, count:] = 0
            block[1, count:] = pad_row
            block[2, count:] = 1
        block[0, :count] = batch.input_ids
        # A decode computes the token that its own request sampled last.
        block[0, batch.future_index] = LAST_TOKEN
        block[1, :count] = batch.req_pool_indices
        block[2, :count] = batch.seq_lens
        block[3, :count] = batch.prefix_lens
        block[4, :count] = batch.out_cache_loc
        block[_ROWS:, :count] = batch.positions


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTensors:
    """The block on the device: views [S], positions [P, S]."""

    input_ids: torch.Tensor
    rows: torch.Tensor
    seq_lens: torch.Tensor
    prefix_lens: torch.Tensor
    out_cache_loc: torch.Tensor
    positions: torch.Tensor

    @classmethod
    def of(cls, words: torch.Tensor, size: int, position_planes: int) -> DecodeTensors:
        """The block at the beginning of ``words``."""
        block = words[: num_words(size, position_planes)].view(_ROWS + position_planes, size)
        input_ids, rows, seq_lens, prefix_lens, out_cache_loc = block[:_ROWS]
        return cls(
            input_ids=input_ids,
            rows=rows,
            seq_lens=seq_lens,
            prefix_lens=prefix_lens,
            out_cache_loc=out_cache_loc,
            positions=block[_ROWS:],
        )

    def pad(self, pad_row: int) -> None:
        """Make padding of all places: one token in the sink."""
        for tensor in (self.input_ids, self.prefix_lens, self.out_cache_loc, self.positions):
            tensor.zero_()
        self.rows.fill_(pad_row)
        self.seq_lens.fill_(1)
