"""Resizing of frames as torchvision resizes uint8 tensors: antialiased bicubic with 16-bit integer weights.

Pillow's own bicubic uses finer weights and differs from it by one here and there. Pictures are resized by Pillow,
frames of videos by this: each as the processor that the checkpoint was trained with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Taps of the cubic on each side of its centre.
_REACH = 2.0
#: The cubic's free parameter; Pillow and torch use it for antialiased resizing.
_A = -0.5
_INT16 = 1 << 15
_MAX_BITS = 22
#: Outputs that are computed by one matrix product.
_BLOCK = 64


def resize_frames(frames_THWC: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Frames [T, H, W, C] as [T, height, width, C]; columns first, then rows, each rounded to uint8."""
    num_frames, old_height, old_width, channels = frames_THWC.shape
    if (old_height, old_width) == (height, width):
        return frames_THWC
    columns, rows = _bands(old_width, width), _bands(old_height, height)
    resized = np.empty((num_frames, height, width, channels), np.uint8)
    for frame_HWC, target in zip(frames_THWC, resized, strict=True):
        if columns is not None:
            turned = np.ascontiguousarray(frame_HWC.transpose(1, 0, 2)).reshape(old_width, -1)
            wide = _resize_rows(turned, width, columns).reshape(width, old_height, channels)
            frame_HWC = np.ascontiguousarray(wide.transpose(1, 0, 2))
        flat = frame_HWC.reshape(old_height, -1)
        target[...] = (flat if rows is None else _resize_rows(flat, height, rows)).reshape(target.shape)
    return resized


@dataclass(frozen=True, slots=True, kw_only=True)
class _Band:
    """A block of neighbouring outputs, and the inputs that they are made of."""

    outputs: slice
    inputs: slice
    #: [outputs, inputs], whole numbers in units of 2**-bits, in a type whose sums of them are exact.
    weights: NDArray[Any]
    bits: int


def _bands(old_size: int, new_size: int) -> list[_Band] | None:
    """``None`` where nothing changes."""
    if old_size == new_size:
        return None
    taps = _taps(old_size, new_size)
    # Below 2**24 float32 counts exactly, in whatever order it adds.
    largest = 255 * int(np.abs(taps.weights).sum(axis=1).max()) + (1 << taps.bits)
    exact = np.float32 if largest < 1 << 24 else np.float64
    bands = []
    for start in range(0, new_size, _BLOCK):
        outputs = slice(start, min(start + _BLOCK, new_size))
        places, weights = taps.places[outputs], taps.weights[outputs]
        first, end = int(places.min()), int(places.max()) + 1
        matrix = np.zeros((len(places), end - first), exact)
        # Places beyond the input were moved to its last one, with weight 0.
        np.add.at(matrix, (np.arange(len(places))[:, None], places - first), weights.astype(exact))
        bands.append(_Band(outputs=outputs, inputs=slice(first, end), weights=matrix, bits=taps.bits))
    return bands


def _resize_rows(values_NM: NDArray[np.uint8], size: int, bands: Sequence[_Band]) -> NDArray[np.uint8]:
    """[N, M] as [size, M]."""
    resized = np.empty((size, values_NM.shape[1]), np.uint8)
    for band in bands:
        sums = band.weights @ values_NM[band.inputs].astype(band.weights.dtype)
        sums += 1 << (band.bits - 1)
        sums *= 2.0**-band.bits
        np.floor(sums, out=sums)
        np.clip(sums, 0, 255, out=sums)
        resized[band.outputs] = sums
    return resized


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taps:
    """For each output place: which inputs it is made of, and how much of each."""

    #: [size, taps]; a place beyond the input has weight 0.
    places: NDArray[np.intp]
    #: [size, taps], in units of 2**-bits.
    weights: NDArray[np.int32]
    bits: int


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
