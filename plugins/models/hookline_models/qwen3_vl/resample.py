"""Resizing of frames as torchvision resizes uint8 tensors: antialiased bicubic with 16-bit integer weights.

Pillow's own bicubic uses finer weights and differs from it by one here and there. Pictures are resized by Pillow,
frames of videos by this: each as the processor that the checkpoint was trained with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Taps of the cubic on each side of its centre.
_REACH = 2.0
#: The cubic's free parameter; Pillow and torch use it for antialiased resizing.
_A = -0.5
_INT16 = 1 << 15
_MAX_BITS = 22


def resize_frames(frames_THWC: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Frames [T, H, W, C] as [T, height, width, C]; columns first, then rows, each rounded to uint8."""
    resized = _resize_axis(frames_THWC, 2, width)
    return _resize_axis(resized, 1, height)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taps:
    """For each output place: which inputs it is made of, and how much of each."""

    #: [size, taps]; a place beyond the input has weight 0.
    places: NDArray[np.intp]
    #: [size, taps], in units of 2**-bits.
    weights: NDArray[np.int32]
    bits: int


def _resize_axis(values: NDArray[np.uint8], axis: int, size: int) -> NDArray[np.uint8]:
    if values.shape[axis] == size:
        return values
    taps = _taps(values.shape[axis], size)
    shape = [1] * values.ndim
    shape[axis] = size
    target = (*values.shape[:axis], size, *values.shape[axis + 1 :])
    sums = np.full(target, 1 << (taps.bits - 1), dtype=np.int32)
    for tap in range(taps.places.shape[1]):
        part = np.take(values, taps.places[:, tap], axis=axis).astype(np.int32)
        part *= taps.weights[:, tap].reshape(shape)
        sums += part
    sums >>= taps.bits
    return np.clip(sums, 0, 255, out=sums).astype(np.uint8)


def _taps(old_size: int, new_size: int) -> _Taps:
    scale = old_size / new_size
    stretch = max(scale, 1.0)
    support = _REACH * stretch
    centres = scale * (np.arange(new_size) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + support + 0.5).astype(np.int64), old_size) - first
    most = math.ceil(support) * 2 + 1
    counts = np.clip(counts, 0, most)
    offsets = np.arange(most)
    inside = offsets < counts[:, None]
    distances = (offsets + first[:, None] - centres[:, None] + 0.5) * (1.0 / stretch)
    weights = np.where(inside, _cubic(distances), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    bits = _precision(float(weights.max()))
    scaled = weights * (1 << bits)
    rounded = np.where(scaled < 0, scaled - 0.5, scaled + 0.5).astype(np.int32)
    places = np.minimum(first[:, None] + offsets, old_size - 1)
    return _Taps(places=places, weights=np.where(inside, rounded, 0), bits=bits)


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(distances)
    near = ((_A + 2.0) * x - (_A + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * _A
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _precision(largest: float) -> int:
    """The most bits with which the largest weight still fits into 16."""
    bits = 0
    while bits < _MAX_BITS and int(0.5 + largest * (1 << (bits + 1))) < _INT16:
        bits += 1
    return bits
