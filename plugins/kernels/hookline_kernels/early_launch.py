"""Programmatic dependent launch: a kernel's programs start while the kernel before it ends."""

from __future__ import annotations

import functools

import torch


@functools.cache
def early_launch(device: torch.device) -> dict[str, bool]:
    """Launch options for kernels that wait for the kernel before them by themselves; empty where devices cannot."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (9, 0):
        return {}
    return {"launch_pdl": True}
