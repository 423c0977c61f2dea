"""SamplingHarness: the sampler and its state by row, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from hookline.batch.worker_batch import SamplingRow
from hookline.interfaces.logits import LogitsProcessor
from hookline.layers.ops import Ops
from hookline.platform import CpuPlatform
from hookline.sampling_params import SamplingParams
from hookline.worker.packing import HostPack
from hookline.worker.penalties import PenaltyTable
from hookline.worker.sampler import Sampled, Sampler
from hookline.worker.sampling_batch import SamplingBatch, SamplingPlan
from hookline.worker.sampling_rows import SamplingRows


class SamplingHarness:
    """Rows are set up with ``start`` and sampled with ``sample``; ``lengths`` counts each row's tokens."""

    def __init__(
        self,
        vocab_size: int,
        *,
        num_rows: int = 16,
        seed: int = 0,
        processors: Mapping[str, LogitsProcessor] | None = None,
    ) -> None:
        self.platform = CpuPlatform(threads=1)
        self.rows = SamplingRows(num_rows, vocab_size, seed=seed, processors=processors)
        self.table = PenaltyTable(vocab_size, self.platform.device)
        self.sampler = Sampler(self.table, Ops())
        self.lengths: dict[int, int] = {}

    def start(
        self,
        row: int,
        params: SamplingParams,
        *,
        rid: str | None = None,
        prompt: Sequence[int] = (1,),
        output: Sequence[int] = (),
        choice_index: int = 0,
        end_ids: Sequence[int] = (),
    ) -> None:
        """Set up a row, as the first pass of a request does."""
        start = SamplingRow(
            row=row,
            params=params,
            choice_index=choice_index,
            prompt_ids=tuple(prompt),
            output_ids=tuple(output),
            end_token_ids=tuple(end_ids),
        )
        self.rows.start(start, rid or f"rid-{row}")
        self.lengths[row] = len(prompt) + len(output)
        slot = int(self.rows.penalty_slot[row])
        if slot >= 0:
            pack = HostPack()
            reset = self.rows.penalty_slots.reset([(slot, prompt, output)])
            for array in (reset.slots, reset.places, reset.values):
                pack.put(array)
            self.table.reset(self.rows.penalty_slots.num_slots, *pack.seal(self.platform).send())

    def batch(self, rows: Sequence[int], constrained: Sequence[int] = ()) -> SamplingBatch:
        """The settings of a pass over ``rows``; ``constrained`` are indices into them."""
        pack = HostPack()
        plan = SamplingPlan(
            self.rows,
            np.array(rows, dtype=np.int64),
            np.array([self.lengths[row] for row in rows], dtype=np.int64),
            np.array(constrained, dtype=np.int64),
            pack,
        )
        return plan.batch(pack.seal(self.platform).send())

    def run(
        self,
        rows: Sequence[int],
        logits: torch.Tensor,
        *,
        constrained: Sequence[int] = (),
        bitmask: npt.NDArray[np.int32] | None = None,
    ) -> Sampled:
        """Sample a pass; ``logits`` [rows, V] are not changed."""
        words = None if bitmask is None else torch.from_numpy(bitmask)
        sampled = self.sampler.sample(logits.clone(), self.batch(rows, constrained), words)
        for row in rows:
            self.lengths[row] += 1
        return sampled

    def sample(self, rows: Sequence[int], logits: torch.Tensor) -> list[int]:
        """The tokens of a pass."""
        return self.run(rows, logits).token_ids.tolist()
