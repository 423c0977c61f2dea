"""IdleWorker: a worker whose device computes nothing, to measure the host's part of a step."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hookline.batch.encoder_orders import EncoderOrders
from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.bench.grammar_walker import GrammarWalker
from hookline.bench.stage_clock import StageClock
from hookline.interfaces.worker import StepResult, WorkerInfo
from hookline.platform import Platform
from hookline.worker.pass_plan import PassPlan
from hookline.worker.sampling_rows import SamplingRows

#: What every request samples, always, unless a grammar constrains it.
_TOKEN = 7
#: The stage of what only the stand-in does; no part of a step.
STAND_IN = "stand-in"


class IdleWorker:
    """Satisfies ``Worker``. Does the host's work that a real one does for a pass, and nothing on the device.

    The stages "worker: plan" and "worker: read" of ``clock`` get the time of planning passes and of putting results
    together, ``STAND_IN`` the time of making them up.
    """

    def __init__(
        self, info: WorkerInfo, platform: Platform, clock: StageClock, walker: GrammarWalker | None = None
    ) -> None:
        """``walker``: says what constrained requests sample."""
        self.info = info
        self.walker = walker
        self._platform = platform
        self._clock = clock
        self._rows = SamplingRows(info.max_running_requests, info.vocab_size)

    def launch(self, batch: ModelWorkerBatch) -> _IdleStep:
        with self._clock.stage("worker: plan"):
            return _IdleStep(self, batch, PassPlan(batch, self._rows, self._platform))

    def read(self, batch: ModelWorkerBatch, bitmask_BW: npt.NDArray[np.int32] | None) -> StepResult:
        """The results of a pass, from tensors as a device would have left them."""
        with self._clock.stage(STAND_IN):
            token_ids = torch.full((batch.batch_size, 1), _TOKEN, dtype=torch.int64)
            if bitmask_BW is not None and self.walker is not None:
                for index, mask_W in zip(batch.constrained, bitmask_BW, strict=True):
                    token_ids[index] = self.walker.pick(mask_W)
            num_new = torch.tensor(batch.samples, dtype=torch.int64)
        with self._clock.stage("worker: read"):
            tokens, counts = token_ids.tolist(), num_new.tolist()
            return StepResult(token_ids=[row[:count] for row, count in zip(tokens, counts, strict=True)])

    def encode(self, orders: EncoderOrders) -> None:
        """Encodes nothing."""

    def load_adapter(self, slot: int, name: str, path: Path) -> None:
        """Takes any adapter."""

    def unload_adapter(self, slot: int) -> None:
        """Forgets it."""

    def update_weights(self, path: Path) -> None:
        """There are none."""

    def release_memory(self, tags: Iterable[str]) -> None:
        """There is none."""

    def resume_memory(self, tags: Iterable[str]) -> None:
        """There is none."""

    def close(self) -> None:
        """Nothing is held."""


class _IdleStep:
    """A pass that is done as soon as somebody asks."""

    def __init__(self, worker: IdleWorker, batch: ModelWorkerBatch, plan: PassPlan) -> None:
        self._worker = worker
        self._batch = batch
        #: Kept until the results are read, as a device would.
        self._plan = plan
        self._bitmask_BW: npt.NDArray[np.int32] | None = None

    def sample(self, bitmask_BW: npt.NDArray[np.int32] | None = None) -> None:
        self._bitmask_BW = bitmask_BW

    def result(self) -> StepResult:
        return self._worker.read(self._batch, self._bitmask_BW)
