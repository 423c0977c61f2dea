"""Pipeline: passes between their launch and their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookline.interfaces.scheduling import StepReport
    from hookline.interfaces.worker import Step, Worker
    from hookline.scheduler.execution import Execution
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.masks import MaskFiller
    from hookline.scheduler.media import MediaHost
    from hookline.scheduler.results import Results
    from hookline.scheduler.schedule_batch import Pass
    from hookline.scheduler.stats import StatsReporter


@dataclass(frozen=True, slots=True)
class LaunchedPass:
    """A pass that the worker has, and its handle there."""

    plan: Pass
    step: Step


class Pipeline:
    """Launches passes and takes in their results. At most one pass is left in flight between two steps."""

    def __init__(
        self,
        worker: Worker,
        ledger: KVLedger,
        execution: Execution,
        media: MediaHost,
        masks: MaskFiller,
        results: Results,
        stats: StatsReporter,
        on_result: Callable[[StepReport], None],
    ) -> None:
        self._worker = worker
        self._position_planes = worker.info.position_planes
        self._ledger = ledger
        self._execution = execution
        self._media = media
        self._masks = masks
        self._results = results
        self._stats = stats
        self._on_result = on_result
        self._num_launched = 0
        self.in_flight: LaunchedPass | None = None

    def launch(self, plan: Pass) -> LaunchedPass:
        """Start a pass. One with constrained requests is sampled later, by ``constrain``."""
        with self._stats.stage("launch"):
            self._num_launched += 1
            plan.step = self._num_launched
            media = self._media.before(plan)
            update = self._ledger.take_update()
            batch = plan.worker_batch(update, self._position_planes, media)
            step = self._worker.launch(batch)
            self._execution.launched(plan)
            self._media.after(plan)
        return LaunchedPass(plan, step)

    def constrain(self, launched: LaunchedPass) -> None:
        """Sample a pass with constrained requests; all earlier results must be processed."""
        if launched.plan.constrained:
            with self._stats.stage("mask"):
                mask_BW = self._masks.fill(launched.plan)
            launched.step.sample(mask_BW)

    def process(self, launched: LaunchedPass) -> None:
        """Wait for a pass and take in its results."""
        with self._stats.stage("wait"):
            result = launched.step.result()
        with self._stats.stage("process"):
            report = self._results.process(launched.plan, result)
            self._on_result(report)
        self._stats.stepped()

    def settle(self) -> None:
        """Take in the pass in flight, if any: afterwards the host knows everything."""
        if self.in_flight is not None:
            launched, self.in_flight = self.in_flight, None
            self.process(launched)
