"""Segments: arrays of media that another process put into shared memory."""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hookline.messages.requests import MediaTensor

#: Where Linux shows segments as files. Opened there, Python's resource tracker does not think that they are ours.
_FOLDER = Path("/dev/shm")


class Segments:
    """The segments of one request, mapped read-only. ``close`` when nothing reads the arrays any more."""

    def __init__(self) -> None:
        self._maps: dict[str, mmap.mmap] = {}

    def array(self, tensor: MediaTensor) -> npt.NDArray[Any]:
        """The array, as a view of its segment or as it came.

        Raises ``ValueError`` or ``OSError`` for a segment that is not there or too small for the array.
        """
        if tensor.data is not None:
            return np.asarray(tensor.data)
        shared = self._maps.get(tensor.segment)
        if shared is None:
            shared = self._maps[tensor.segment] = _map(tensor.segment)
        dtype = np.dtype(tensor.dtype)
        count = 1
        for extent in tensor.shape:
            count *= extent
        return np.frombuffer(shared, dtype, count=count, offset=tensor.offset).reshape(tensor.shape)

    def close(self) -> None:
        """Unmap; a segment whose arrays are still referred to goes with the last of them."""
        for shared in self._maps.values():
            with contextlib.suppress(BufferError):
                shared.close()
        self._maps.clear()


def _map(name: str) -> mmap.mmap:
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"'{name}' is not the name of a segment")
    handle = os.open(_FOLDER / name, os.O_RDONLY)
    try:
        return mmap.mmap(handle, 0, prot=mmap.PROT_READ)
    finally:
        os.close(handle)
