"""Gathers the keys or values of a group into memory that is used again."""

from __future__ import annotations

import torch
from torch import Tensor


class GatherBuffer:
    """One growing buffer. What ``gather`` returned is overwritten by the next call.

    On a CPU, megabytes that are asked for afresh in every layer come from the system as pages that must be
    mapped one by one, which takes longer than copying the keys. Other devices have caching allocators.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cpu = device.type == "cpu"
        self._memory: Tensor | None = None

    def gather(self, plane_SKD: Tensor, slots: Tensor) -> Tensor:
        """The rows of a plane at ``slots`` [n]: [n, K, D]."""
        if not self._is_cpu:
            return plane_SKD.index_select(0, slots)
        num_elements = slots.shape[0] * plane_SKD.shape[1] * plane_SKD.shape[2]
        memory = self._memory
        if memory is None or memory.dtype != plane_SKD.dtype or memory.shape[0] < num_elements:
            # An ordinary tensor, which may be written inside and outside of inference mode.
            with torch.inference_mode(False):
                memory = torch.empty(num_elements * 5 // 4, dtype=plane_SKD.dtype)
            self._memory = memory
        rows = memory[:num_elements].view(slots.shape[0], plane_SKD.shape[1], plane_SKD.shape[2])
        return torch.index_select(plane_SKD, 0, slots, out=rows)
