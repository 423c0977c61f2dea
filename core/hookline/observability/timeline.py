"""Timeline: how long each phase of a start took."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

#: In the order of a start. "import" begins with the process; "kernels" is the attention backend, the memory plan and
#: the first passes, which compile or load kernels; "ready" is what is left to do until requests are taken.
PHASES = ("import", "config", "weights", "kernels", "graphs", "ready")


class Timeline:
    """Phases of ``PHASES`` that follow each other without gaps."""

    def __init__(self, started: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``started`` is when the first phase began, on ``clock``; now if it is not given."""
        self._clock = clock
        self._last = clock() if started is None else started
        self._seconds: dict[str, float] = {}

    def mark(self, phase: str) -> None:
        """A phase ends now; it began when the last one ended. May be called again for the same phase."""
        assert phase in PHASES, f"no phase of a start: {phase}"
        now = self._clock()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
        self._last = now

    @property
    def seconds(self) -> dict[str, float]:
        """Phase -> seconds so far, in the order of ``PHASES``."""
        return {phase: round(self._seconds[phase], 3) for phase in PHASES if phase in self._seconds}


def whole_start(phases: Mapping[str, float], *, until_ready: float, total: float) -> dict[str, float]:
    """The timeline of a server from that of its scheduler process.

    ``until_ready`` are the seconds from the server's start until that process was ready, ``total`` those until
    requests are taken. What came before the process began counts as "import", what came after as "ready".
    """
    found = dict.fromkeys(PHASES, 0.0) | dict(phases)
    found["import"] += max(until_ready - sum(phases.values()), 0.0)
    found["ready"] += total - until_ready
    return {phase: round(seconds, 3) for phase, seconds in found.items()}


def timeline_text(phases: Mapping[str, float]) -> str:
    """One line for the log: "import 0.52 s, config 0.10 s, ..., 3.10 s in all"."""
    parts = [f"{phase} {seconds:.2f} s" for phase, seconds in phases.items()]
    return ", ".join([*parts, f"{sum(phases.values()):.2f} s in all"])


def process_started() -> float:
    """``time.monotonic()`` of when this process began; now where the system does not tell."""
    now = time.monotonic()
    try:
        # Field 22, counted from after the name, which may hold anything: ticks from the boot to the start.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return now
    return now - max(age, 0.0)
