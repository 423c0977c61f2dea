"""Planner: asks the BatchScheduler for the next pass and has it carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hookline.errors import PluginError
from hookline.scheduler.view import View

if TYPE_CHECKING:
    from hookline.interfaces.scheduling import BatchScheduler
    from hookline.scheduler.execution import Execution
    from hookline.scheduler.kv_ledger import KVLedger
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.schedule_batch import Pass
    from hookline.scheduler.stats import StatsReporter
    from hookline.scheduler.waits import WaitRoom

#: Empty plans in a row, although requests wait and nothing else can change that, until the loop gives up.
_MAX_EMPTY_PLANS = 1000


class Planner:
    """The seam to the scheduler plugin."""

    def __init__(
        self,
        scheduler: BatchScheduler,
        scheduler_name: str,
        execution: Execution,
        roster: Roster,
        waits: WaitRoom,
        ledger: KVLedger,
        stats: StatsReporter,
        *,
        has_prefix_cache: bool,
    ) -> None:
        self._scheduler = scheduler
        self._scheduler_name = scheduler_name
        self._execution = execution
        self._roster = roster
        self._waits = waits
        self._ledger = ledger
        self._stats = stats
        self._has_prefix_cache = has_prefix_cache
        self._num_empty = 0

    def next_pass(self) -> Pass | None:
        """The next pass, allocated, or ``None`` when nothing is to run now.

        Raises ``PluginError`` naming the scheduler when it fails, plans what cannot be, or plans nothing for
        ever although requests wait.
        """
        roster = self._roster
        roster.sweep()
        if not roster.waiting and roster.chunked is None and not len(roster.running):
            return None
        with self._stats.stage("schedule"):
            held = len(self._waits.held)
            view = View(roster, self._ledger, has_prefix_cache=self._has_prefix_cache, num_held=held)
            try:
                plan = self._scheduler.plan(view)
            except Exception as error:
                raise PluginError(f"{self._scheduler_name} failed: {type(error).__name__}: {error}") from error
            num_releasing = view.num_releasing
            planned = self._execution.carry_out(plan)
        if planned is not None or num_releasing or plan.retract or plan.reject:
            self._num_empty = 0
        else:
            self._num_empty += 1
            if self._num_empty > _MAX_EMPTY_PLANS:
                raise PluginError(
                    f"{self._scheduler_name} plans nothing although {len(roster)} requests wait or run and no slot "
                    f"can come back by itself"
                )
        return planned
