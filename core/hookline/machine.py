"""What this process has of the machine: processors and main memory, within its affinity and control group."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def physical_cores() -> int:
    """Cores of this machine, hyperthreads not counted; the number of CPUs where the system does not say."""
    cores: set[tuple[str, str]] = set()
    for topology in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology"):
        with contextlib.suppress(OSError):
            package = (topology / "physical_package_id").read_text().strip()
            cores.add((package, (topology / "core_id").read_text().strip()))
    return len(cores) or os.cpu_count() or 1


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, and the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            # Part of a core still lets a thread run; two threads on 1.5 cores would wait for each other.
            count = min(count, max(1, int(quota) // int(period)))
    return max(1, count)


def read_memory() -> tuple[int, int]:
    """(free, total) bytes of main memory that this process may take, within the limits of its control group."""
    values: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            key, _, rest = line.partition(":")
            values[key] = int(rest.split()[0]) * 1024
    if "MemAvailable" in values:
        free, total = values["MemAvailable"], values["MemTotal"]
    else:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        free = total // 2  # without a count of what is in use, half is a cautious guess
    for limit, used in _cgroup_limits():
        total = min(total, limit)
        free = min(free, max(0, limit - used))
    return free, total


def _cgroup_limits() -> Iterator[tuple[int, int]]:
    """(limit, use) in bytes of each control group around this process that sets one."""
    files = [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")]
    for limit_file, used_file in files:
        with contextlib.suppress(OSError, ValueError):
            root = Path("/sys/fs/cgroup")
            limit = (root / limit_file).read_text().strip()
            if limit != "max":
                yield int(limit), int((root / used_file).read_text())
