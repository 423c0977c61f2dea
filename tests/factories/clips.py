"""Clips for tests of video processing: the same bytes on every machine, from integer arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCase:
    """A clip, and how it is sampled."""

    name: str
    #: (frames, height, width)
    shape: tuple[int, int, int]
    #: Frames per second that the metadata say; ``None``: they say nothing.
    fps: float | None
    #: Whether frames are sampled at the processor's rate; otherwise all are taken.
    sampled: bool = True


#: Settings of the processor in all cases; the caps are such that each clip is changed by something.
SIZE = {"shortest_edge": 4096, "longest_edge": 16 * 128 * 128}
FRAMES = {"fps": 2, "min_frames": 4, "max_frames": 16}
MAX_VIDEO_TOKENS = 6

CLIP_CASES = [
    ClipCase(name="even", shape=(4, 64, 96), fps=2.0),
    ClipCase(name="odd", shape=(5, 50, 70), fps=4.0, sampled=False),
    ClipCase(name="small", shape=(6, 20, 33), fps=2.0),
    ClipCase(name="large", shape=(16, 120, 160), fps=30.0),
    ClipCase(name="long", shape=(48, 64, 64), fps=10.0),
    ClipCase(name="no_rate", shape=(30, 64, 80), fps=None),
    ClipCase(name="wide", shape=(4, 17, 400), fps=2.0),
]


def clip_frames(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Frames [T, H, W, 3]: a gradient, a moving square with sharp edges, and noise in one corner."""
    num_frames, height, width = shape
    t, y, x, c = np.ogrid[:num_frames, :height, :width, :3]
    values = (x * 200 // width + y * 40 * (c + 1) // (3 * height) + 3 * t).astype(np.uint32)
    noise = ((x * 73856093) ^ (y * 19349663) ^ (t * 83492791) ^ (c * 2654435)).astype(np.uint32) >> 7
    values = np.where((y < height // 3) & (x < width // 3), noise, values)
    left = (t * width) // (2 * num_frames)
    square = (x >= left) & (x < left + width // 4) & (y >= height // 2) & (y < height // 2 + height // 4)
    values = np.where(square, np.array([250, 10, 120], np.uint32), values)
    return (values & 255).astype(np.uint8)
