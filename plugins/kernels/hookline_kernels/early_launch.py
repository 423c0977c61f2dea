"""Programmatic dependent launch: a kernel's programs start while the kernel before it ends."""

from __future__ import annotations

import functools

import torch


@functools.cache
def has_early_launch(device: torch.device) -> bool:
    """Whether kernels may start before their predecessor has ended: from compute capability 9 on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def early_launch(device: torch.device) -> dict[str, bool]:
    """Launch options of kernels that take ``PDL`` and with it wait for the kernel before them by themselves."""
    return {"PDL": True, "launch_pdl": True} if has_early_launch(device) else {"PDL": False}
