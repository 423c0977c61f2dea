"""Pictures and frames as patches, equal to what the processors of the checkpoint make of them.

The layout is that of Qwen2VLImageProcessor and Qwen3VLVideoProcessor: patches in blocks of 2 by 2,
each patch as (channel, frame of the pair, row, column). Values stay uint8 here; `normalise` belongs
to the model's side, so that batches travel as bytes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

PATCH = 16
MERGE = 2
FACTOR = PATCH * MERGE
FRAME_PAIR = 2
MIN_PIXELS = 64 * 64
MAX_PIXELS = 192 * 192
MAX_CLIP_PIXELS = 16 * 128 * 128
MEAN = STD = 0.5

Patches = NDArray[np.uint8]
Grid = tuple[int, int, int]


def smart_size(width: int, height: int) -> tuple[int, int]:
    """The (width, height) that a picture is resized to: multiples of 32 within the pixel limits."""
    new_height = round(height / FACTOR) * FACTOR
    new_width = round(width / FACTOR) * FACTOR
    if new_height * new_width > MAX_PIXELS:
        beta = math.sqrt(height * width / MAX_PIXELS)
        new_height = max(FACTOR, math.floor(height / beta / FACTOR) * FACTOR)
        new_width = max(FACTOR, math.floor(width / beta / FACTOR) * FACTOR)
    elif new_height * new_width < MIN_PIXELS:
        beta = math.sqrt(MIN_PIXELS / (height * width))
        new_height = math.ceil(height * beta / FACTOR) * FACTOR
        new_width = math.ceil(width * beta / FACTOR) * FACTOR
    return new_width, new_height


def picture_patches(image: Image.Image) -> tuple[Patches, Grid]:
    """Patches [N, 3*16*16] of one picture. The model sees each twice, as a pair of equal frames."""
    resized = image.resize(smart_size(*image.size), Image.Resampling.BICUBIC)
    frames_THWC = np.asarray(resized)[None]
    patches, grid = _patchify(frames_THWC, 1)
    return patches, grid


def clip_patches(frames: list[Image.Image]) -> tuple[Patches, Grid]:
    """Patches [T/2*N, 3*2*16*16] of a clip whose frames are multiples of 32; an odd last one repeats."""
    frames = frames + frames[-1:] * (len(frames) % FRAME_PAIR)
    return _patchify(np.stack([np.asarray(frame) for frame in frames]), FRAME_PAIR)


def pair_times(frame_indices: tuple[int, ...], fps: float) -> list[float]:
    """The time of each pair of frames in seconds: the mean of its two."""
    indices = [*frame_indices, *frame_indices[-1:] * (len(frame_indices) % FRAME_PAIR)]
    return [(a / fps + b / fps) / 2 for a, b in zip(indices[::2], indices[1::2], strict=True)]


def scale(patches: torch.Tensor) -> torch.Tensor:
    """uint8 values as the processors normalise them."""
    return (patches.float() / 255.0 - MEAN) / STD


def normalise(patches: torch.Tensor) -> torch.Tensor:
    """uint8 patches of pictures or clips as the float32 rows [N, 1536] that the model takes."""
    scaled = scale(patches)
    if scaled.shape[-1] == 3 * PATCH * PATCH:
        channels = scaled.view(*scaled.shape[:-1], 3, 1, PATCH * PATCH)
        scaled = channels.expand(*channels.shape[:-2], FRAME_PAIR, PATCH * PATCH).flatten(-3)
    return scaled


def _patchify(frames_THWC: NDArray[np.uint8], pair: int) -> tuple[Patches, Grid]:
    num_frames, height, width, channels = frames_THWC.shape
    grid = (num_frames // pair, height // PATCH, width // PATCH)
    blocks = frames_THWC.reshape(
        grid[0], pair, grid[1] // MERGE, MERGE, PATCH, grid[2] // MERGE, MERGE, PATCH, channels
    )
    # (t, block row, block column, row, column, channel, frame of the pair, y, x)
    ordered = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return ordered.reshape(math.prod(grid), channels * pair * PATCH * PATCH).copy(), grid
