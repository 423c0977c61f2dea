"""PassPlan: the host work of one pass, done when it is launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.platform import Platform
from hookline.worker.decode_inputs import DecodeInputs
from hookline.worker.forward_inputs import ForwardInputs
from hookline.worker.logprobs import InputLogprobs, LogprobRows, plan_output
from hookline.worker.packing import HostPack
from hookline.worker.penalties import PenaltyTable
from hookline.worker.sampling_batch import SamplingPlan
from hookline.worker.sampling_rows import SamplingRows


class PassPlan:
    """What a pass needs from the host. Rows may change owners before the pass runs, so everything that
    concerns them is picked here and does not change afterwards.

    Updates ``rows``: given-back rows are released, (re)starting ones are set up.
    """

    def __init__(
        self, batch: ModelWorkerBatch, rows: SamplingRows, platform: Platform, decode: DecodeInputs | None = None
    ) -> None:
        """``decode``: the pass is replayed with these inputs."""
        pack = HostPack()
        self.freed_rows = tuple(batch.freed_rows)
        self.penalty_start = _start_rows(batch, rows, pack)
        self.decode = decode
        self.inputs = None if decode is not None else ForwardInputs(batch, pack)
        found = decode or self.inputs
        assert found is not None
        #: [S] index into B of the requests that get a token.
        self.sampled = sampled = found.sampled
        sampled_rows = batch.req_pool_indices[sampled]
        #: Index into B -> what is wrong with a request's settings.
        self.errors: dict[int, str] = {}
        if rows.errors:
            for b, row in zip(sampled.tolist(), sampled_rows.tolist(), strict=True):
                if row in rows.errors:
                    self.errors[b] = rows.errors[row]
        #: A replayed pass samples every request.
        self._num_new = None if decode is not None else pack.put(np.asarray(batch.samples, dtype=np.int64))
        # Masks come in the order of ``constrained``; the sampler counts sampled rows only.
        constrained = np.searchsorted(sampled, np.asarray(batch.constrained, dtype=np.int64))
        self.sampling = SamplingPlan(rows, sampled_rows, batch.seq_lens[sampled], constrained, pack)
        self.output_logprobs: LogprobRows | None = None
        self.input_logprobs: InputLogprobs | None = None
        if batch.logprobs is not None:
            self.output_logprobs = plan_output(batch.logprobs, sampled, pack)
            self.input_logprobs = InputLogprobs.plan(batch.logprobs, found.starts, pack)
        #: Places of embedding rows of media among the tokens, in the order of ``batch.media``.
        self.media_places: int | None = None
        if batch.media:
            runs = [np.arange(run.place, run.place + run.num_rows, dtype=np.int64) for run in batch.media]
            self.media_places = pack.put(np.concatenate(runs))
        self.sealed = pack.seal(platform)

    def num_new(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """[B] int64 on the device: one token for requests that are sampled. Not for passes that are replayed."""
        assert self._num_new is not None
        return tensors[self._num_new]


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltyStart:
    """Penalty counts of requests that (re)start: places in the pack."""

    num_slots: int
    slots: int
    places: int
    values: int

    def apply(self, table: PenaltyTable, tensors: Sequence[torch.Tensor]) -> None:
        """Write them; runs in the work queue before the pass is sampled."""
        table.reset(self.num_slots, tensors[self.slots], tensors[self.places], tensors[self.values])


def _start_rows(batch: ModelWorkerBatch, rows: SamplingRows, pack: HostPack) -> PenaltyStart | None:
    for row in batch.freed_rows:
        rows.release(row)
    if not batch.new_rows:
        return None
    rid_of = dict(zip(batch.req_pool_indices.tolist(), batch.rids, strict=True))
    starts = []
    for start in batch.new_rows:
        rows.start(start, rid_of[start.row])
        slot = int(rows.penalty_slot[start.row])
        if slot >= 0:
            starts.append((slot, start.prompt_ids, start.output_ids))
    if not starts:
        return None
    reset = rows.penalty_slots.reset(starts)
    return PenaltyStart(
        num_slots=rows.penalty_slots.num_slots,
        slots=pack.put(reset.slots),
        places=pack.put(reset.places),
        values=pack.put(reset.values),
    )
