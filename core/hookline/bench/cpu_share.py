"""CpuShare: how much of a core each process used over a time."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psutil  # type: ignore[import-untyped]


class CpuShare:
    """Begins in the constructor."""

    def __init__(self, processes: Mapping[str, psutil.Process]) -> None:
        self._processes = dict(processes)
        self._started = time.perf_counter()
        self._before = {name: _seconds(process) for name, process in self._processes.items()}

    def shares(self) -> dict[str, float]:
        """Name -> share of one core since the beginning, user and system time; 1.0 is a whole core."""
        elapsed = time.perf_counter() - self._started
        return {name: (_seconds(process) - self._before[name]) / elapsed for name, process in self._processes.items()}


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
