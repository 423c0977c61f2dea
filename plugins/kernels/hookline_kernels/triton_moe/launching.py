"""What a launch needs to know about the device."""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache
def has_dependent_launch(device: torch.device) -> bool:
    """Whether kernels may start before their predecessor has ended: from compute capability 9 on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9


@lru_cache
def num_sms(device: torch.device) -> int:
    """Multiprocessors of the device; the interpreter has two."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


def launch_options(
    device: torch.device, *, num_warps: int, num_stages: int = 2, dependent: bool = True
) -> dict[str, object]:
    """Keyword arguments of a launch; ``dependent``: overlapped with its predecessor where the device can."""
    options: dict[str, object] = {"num_warps": num_warps, "num_stages": num_stages, "PDL": False}
    if dependent and has_dependent_launch(device):
        options.update(PDL=True, launch_pdl=True)
    return options
