"""What a launch needs to know about the device."""

from __future__ import annotations

from functools import lru_cache

import torch

from hookline_kernels.early_launch import early_launch


@lru_cache
def num_sms(device: torch.device) -> int:
    """Multiprocessors of the device; the interpreter has two."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


def launch_options(
    device: torch.device, *, num_warps: int, num_stages: int = 2, dependent: bool = True
) -> dict[str, object]:
    """Keyword arguments of a launch; ``dependent``: overlapped with its predecessor where the device can."""
    early = early_launch(device) if dependent else {"PDL": False}
    return {"num_warps": num_warps, "num_stages": num_stages, **early}
