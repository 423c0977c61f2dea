"""HostPack: the host values of one pass, sent to the device in one copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hookline.platform import Platform

#: Both have eight bytes, so that one buffer holds them and every view of it is aligned.
_TORCH_DTYPES = {np.dtype(np.int64): torch.int64, np.dtype(np.float64): torch.float64}

NumberArray = npt.NDArray[Any]


class HostPack:
    """Collects int64 and float64 arrays; ``seal`` copies them into one buffer that goes to the device.

    ``put`` gives the place of an array in the list that ``SealedPack.send`` returns.
    """

    def __init__(self) -> None:
        self._arrays: list[NumberArray] = []

    def put(self, array: NumberArray) -> int:
        """Add an array of any shape; it may change after ``seal``, not before."""
        if array.dtype not in _TORCH_DTYPES:
            raise TypeError(f"a pack takes int64 and float64 arrays, not {array.dtype}")
        self._arrays.append(array)
        return len(self._arrays) - 1

    def seal(self, platform: Platform) -> SealedPack:
        """Copy all arrays into one (pinned) buffer."""
        sizes = [array.size for array in self._arrays]
        buffer = platform.host_buffer((sum(sizes),), torch.int64)
        words = buffer.numpy()
        start = 0
        for array, size in zip(self._arrays, sizes, strict=True):
            words[start : start + size] = array.reshape(-1).view(np.int64)
            start += size
        layout = [(array.shape, _TORCH_DTYPES[array.dtype]) for array in self._arrays]
        return SealedPack(buffer, layout, platform.device)


class SealedPack:
    """A filled buffer and where each array lies in it."""

    def __init__(
        self, buffer: torch.Tensor, layout: list[tuple[tuple[int, ...], torch.dtype]], device: torch.device
    ) -> None:
        self._buffer = buffer
        self._layout = layout
        self._device = device

    def send(self) -> list[torch.Tensor]:
        """The arrays on the device, in the order of ``put``; views of one tensor. Runs in the work queue."""
        if not self._layout:
            return []
        words = self._buffer.to(self._device, non_blocking=True)
        tensors = []
        start = 0
        for shape, dtype in self._layout:
            size = 1
            for extent in shape:
                size *= extent
            view = words[start : start + size]
            if dtype is not torch.int64:
                view = view.view(dtype)
            tensors.append(view if len(shape) == 1 else view.view(shape))
            start += size
        return tensors
