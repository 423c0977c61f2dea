"""Scheduler: the loop that receives, plans, launches and processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookline.scheduler.checks import LedgerCheck
    from hookline.scheduler.control import Control
    from hookline.scheduler.finisher import Finisher
    from hookline.scheduler.inbox import Inbox
    from hookline.scheduler.media import MediaHost
    from hookline.scheduler.outbox import Outbox
    from hookline.scheduler.pipeline import Pipeline
    from hookline.scheduler.planner import Planner
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.stats import StatsReporter
    from hookline.scheduler.waits import WaitRoom

#: Seconds between two looks at gates and holds when nothing else is to do.
_POLL_INTERVAL = 0.002


class Scheduler:
    """Runs requests on a worker.

    Make one with ``hookline.scheduler.factory.build_scheduler``. Either call ``step`` again and again from
    one thread, or ``run``.
    """

    def __init__(
        self,
        *,
        inbox: Inbox,
        planner: Planner,
        pipeline: Pipeline,
        roster: Roster,
        waits: WaitRoom,
        media: MediaHost,
        finisher: Finisher,
        control: Control,
        outbox: Outbox,
        stats: StatsReporter,
        check: LedgerCheck | None,
        overlap: bool,
    ) -> None:
        self._inbox = inbox
        self._planner = planner
        self._pipeline = pipeline
        self._roster = roster
        self._waits = waits
        self._media = media
        self._finisher = finisher
        self._control = control
        self._outbox = outbox
        self._stats = stats
        self._check = check
        self._event_loop = self._event_loop_overlap if overlap else self._event_loop_normal

    @property
    def has_work(self) -> bool:
        """Whether a request lives or a pass is in flight."""
        return len(self._roster) > 0 or self._pipeline.in_flight is not None or len(self._waits.held) > 0

    def run(self) -> None:
        """Serve until a "shutdown" request; blocks without using the processor while there is nothing to do."""
        while not self._control.is_shut_down:
            self.step(self._patience())

    def step(self, timeout: float | None = 0.0) -> bool:
        """One turn of the loop, which waits up to ``timeout`` seconds for a message first.

        Returns whether there is work left. Raises only what ends the engine: a failing worker or scheduler
        plugin.
        """
        self._inbox.receive(timeout)
        did_encode = not self._control.released and self._media.encode_some()
        self._poll_waits()
        did_work = self._event_loop() or did_encode
        with self._stats.stage("send"):
            self._outbox.flush()
        if self._check is not None:
            self._check.run()
        self._stats.report()
        if not did_work and self._must_poll:
            # A receiver in the same thread does not wait, and a grammar that compiles needs the processor.
            time.sleep(_POLL_INTERVAL)
        return self.has_work

    def _event_loop_normal(self) -> bool:
        """Plan, launch, process: the host waits while the device computes."""
        if self._control.released or (planned := self._planner.next_pass()) is None:
            return False
        launched = self._pipeline.launch(planned)
        self._pipeline.constrain(launched)
        self._pipeline.process(launched)
        return True

    def _event_loop_overlap(self) -> bool:
        """Launch pass N before the results of pass N - 1 are read, so that the device never waits for the host.

        Pass N is planned without the tokens of N - 1: decodes take them from the worker's table, and a
        request that N - 1 turns out to end computes one token in vain, which is dropped. Only masks need
        the tokens, so a constrained pass is sampled after N - 1 was processed.
        """
        last = self._pipeline.in_flight
        launched = None
        if not self._control.released and (planned := self._planner.next_pass()) is not None:
            launched = self._pipeline.launch(planned)
        self._pipeline.in_flight = launched
        if last is not None:
            self._pipeline.process(last)
        if launched is not None:
            self._pipeline.constrain(launched)
        return last is not None or launched is not None

    def _poll_waits(self) -> None:
        opened, failed = self._waits.poll()
        for req, error in failed:
            self._finisher.fail(req, error)
        for req in opened:
            self._roster.enqueue(req)
        self._finisher.release_held()

    @property
    def _must_poll(self) -> bool:
        """Whether something may change that sends no message."""
        return self._waits.num_gated > 0 or len(self._waits.held) > 0

    def _patience(self) -> float | None:
        """How long the next ``step`` may wait for a message."""
        if self._pipeline.in_flight is not None:
            return 0.0
        if not self._control.released and len(self._roster) > self._waits.num_gated:
            return 0.0
        return 0.0 if self._must_poll else None
