"""Surroundings: the device, versions and settings that belong to a figure."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from hookline._version import __version__
from hookline.config.device import cuda_device_name
from hookline.config.sources import LoadedConfig

#: Distributions whose versions change figures.
_DISTRIBUTIONS = ("torch", "triton", "flashinfer-python", "transformers", "numpy", "xgrammar")


def surroundings(loaded: LoadedConfig | None = None) -> dict[str, Any]:
    """What a reader of the figures must know, as plain values for JSON: this machine, and the settings of an engine
    that runs on it. Secrets are hidden."""
    found = {
        "hookline": __version__,
        "machine": {
            "gpu": cuda_device_name(),
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"python": sys.version.split()[0], **_versions()},
    }
    if loaded is not None:
        found["settings"] = {path: [value, str(origin)] for path, value, origin in loaded.given()}
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
