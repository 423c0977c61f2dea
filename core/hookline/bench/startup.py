"""What a user waits for before the first request, and what a server takes while nobody asks anything of it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]

from hookline.bench.cpu_share import CpuShare
from hookline.bench.server_process import ServerProcess
from hookline.config.sources import LoadedConfig
from hookline.errors import HooklineError

#: Commands that start no engine.
COMMANDS = (("plugins", "list"), ("--help",))
_COMMAND_SECONDS = 120.0
#: After the ready line, before idling is measured: what the start left to do is over.
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleProcess:
    """One process of a server that has nothing to do."""

    name: str
    #: Resident bytes, shared pages counted in full.
    rss: int
    #: Resident bytes, shared pages divided among their users; ``None`` where the system does not tell.
    pss: int | None
    #: Share of one core.
    cpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupMeasurement:
    """All runs."""

    #: "serve" (until the ready line) or a command (until its end) -> seconds of each run.
    seconds: dict[str, list[float]]
    #: The processes of the last server.
    idle: list[IdleProcess] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """Median seconds of each."""
        return {name: statistics.median(values) for name, values in self.seconds.items()}


def measure_startup(loaded: LoadedConfig, *, repetitions: int, idle_seconds: float) -> StartupMeasurement:
    """Start everything ``repetitions`` times in turns, and look at the last server for ``idle_seconds``.

    Raises ``HooklineError`` when a start fails.
    """
    seconds: dict[str, list[float]] = {}
    idle: list[IdleProcess] = []
    for number in range(repetitions):
        for command in COMMANDS:
            seconds.setdefault(" ".join(command), []).append(_run(command))
        with ServerProcess(loaded) as server:
            seconds.setdefault("serve", []).append(server.wait_ready())
            if number == repetitions - 1 and idle_seconds > 0:
                time.sleep(min(_SETTLE_SECONDS, idle_seconds))
                idle = _idle(server, idle_seconds)
    return StartupMeasurement(seconds=seconds, idle=idle)


def _idle(server: ServerProcess, seconds: float) -> list[IdleProcess]:
    processes = server.processes()
    cpu = CpuShare(processes)
    time.sleep(seconds)
    shares = cpu.shares()
    return [
        IdleProcess(name=name, rss=int(process.memory_info().rss), pss=_pss(process), cpu=shares[name])
        for name, process in processes.items()
    ]


def _pss(process: psutil.Process) -> int | None:
    if not psutil.LINUX:
        return None
    return int(process.memory_full_info().pss)


def _run(arguments: Sequence[str]) -> float:
    """Seconds from the start of a command to its end."""
    command = [sys.executable, "-P", "-m", "hookline", *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise HooklineError(
            f"`hookline {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()[-300:]}"
        )
    return seconds
