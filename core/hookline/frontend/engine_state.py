"""EngineState: whether the engine serves, and whether it gets on with its work."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence

from hookline.errors import EngineDeadError, OverloadedError


class Phase(enum.Enum):
    """The life of a server; only forwards."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


class EngineState:
    """Phase and progress, as the frontend sees them."""

    def __init__(self, *, health_timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``health_timeout``: seconds without a step, while work exists, that count as a fault."""
        self.phase = Phase.STARTING
        self._detail = "processes are starting"
        self._health_timeout = health_timeout
        self._clock = clock
        self._progress_at = clock()
        self._steps = 0
        self._released: tuple[str, ...] = ()

    def starting(self, detail: str) -> None:
        """Say what the start-up is at."""
        self._detail = detail

    def ready(self) -> None:
        """Requests are served from now on."""
        if self.phase is Phase.STARTING:
            self.phase = Phase.READY
            self._progress_at = self._clock()

    def draining(self) -> None:
        """New work is refused from now on."""
        if self.phase is not Phase.DEAD:
            self.phase = Phase.DRAINING

    def dead(self, cause: str) -> None:
        """A process ended. The first cause stays."""
        if self.phase is not Phase.DEAD:
            self.phase = Phase.DEAD
            self._detail = cause

    def check_alive(self) -> None:
        """Raises ``EngineDeadError`` with the cause."""
        if self.phase is Phase.DEAD:
            raise EngineDeadError(self._detail)

    def check_admits(self) -> None:
        """Raises ``OverloadedError`` or ``EngineDeadError`` unless new requests are served."""
        self.check_alive()
        if self.phase is not Phase.READY:
            code = "not_ready" if self.phase is Phase.STARTING else "draining"
            raise OverloadedError(f"the server does not take requests: {self.readiness()[1]}", code=code)

    def released(self, memory: Sequence[str]) -> None:
        """The engine has given back these parts of its memory; none: all of it is there."""
        self._released = tuple(memory)

    def progressed(self) -> None:
        """The engine produced something, or got its first work after a pause."""
        self._progress_at = self._clock()

    def steps(self, total: int) -> None:
        """The scheduler reports so many steps since its start."""
        if total != self._steps:
            self._steps = total
            self.progressed()

    def readiness(self) -> tuple[bool, str]:
        """Whether requests are served, and why not."""
        if self.phase is Phase.READY and self._released:
            return False, f"the memory of {' and '.join(self._released)} is given back; resume_memory first"
        if self.phase is Phase.READY:
            return True, "ready"
        if self.phase is Phase.DRAINING:
            return False, "draining: the server is shutting down"
        return False, f"{self.phase.value}: {self._detail}"

    def health(self, num_open: int) -> tuple[bool, str]:
        """Whether the engine lives and, with ``num_open`` requests at work, gets on."""
        if self.phase in (Phase.STARTING, Phase.DEAD):
            return False, f"{self.phase.value}: {self._detail}"
        silence = self._clock() - self._progress_at
        if num_open and silence > self._health_timeout:
            return False, f"{num_open} requests are open, but no step completed for {silence:.0f} s"
        return True, "healthy"
