"""Pictures as patches: what transformers' Pillow image processor for Qwen2-VL makes of them, but in bytes.

Shapes: H, W pixels; C = 3 channels; N = patches of a picture, in merge order: the four patches of a 2 by 2 block
follow each other, blocks go row by row.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hookline.errors import RequestError
from hookline_models.qwen3_vl.settings import ImageSettings, PatchSettings

#: How many times longer than the other a side may be.
MAX_ASPECT = 200

#: (frames of the patch pair's axis, rows, columns), in patches.
Grid = tuple[int, int, int]


def check_aspect(height: int, width: int) -> None:
    """Raises ``RequestError`` for a picture that is too long for its width."""
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise RequestError(
            f"it has {width}x{height} pixels: one side may be at most {MAX_ASPECT} times as long as the other"
        )


def smart_size(height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(height, width) after resizing: multiples of ``factor``, the pixels within the limits, the aspect kept as
    well as that goes. Raises ``RequestError`` beyond an aspect of 200."""
    check_aspect(height, width)
    new_height, new_width = (round(side / factor) * factor for side in (height, width))
    if new_height * new_width > max_pixels:
        shrink = math.sqrt((height * width) / max_pixels)
        return shrunk(height, shrink, factor), shrunk(width, shrink, factor)
    if new_height * new_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        return math.ceil(height * grow / factor) * factor, math.ceil(width * grow / factor) * factor
    return new_height, new_width


def image_size(height: int, width: int, settings: ImageSettings) -> tuple[int, int]:
    """(height, width) to which a picture is resized. Raises ``RequestError`` beyond an aspect of 200."""
    return smart_size(
        height,
        width,
        factor=settings.patches.factor,
        min_pixels=settings.min_pixels,
        max_pixels=settings.max_pixels,
    )


def image_patches(pixels_HWC: NDArray[np.uint8], settings: ImageSettings) -> tuple[NDArray[np.uint8], Grid]:
    """Patches [N, C * patch * patch] in bytes, and the grid.

    The model sees each patch twice, as a pair of equal frames; only one of them is kept here. Raises
    ``RequestError`` for a picture that is too long.
    """
    old_height, old_width = pixels_HWC.shape[:2]
    height, width = image_size(old_height, old_width, settings)
    resized = pixels_HWC
    if (height, width) != (old_height, old_width):
        image = Image.fromarray(pixels_HWC)
        resized = np.asarray(image.resize((width, height), Image.Resampling(settings.patches.resample)))
    return patchify(resized[None], 1, settings.patches)


def patchify(
    frames_THWC: NDArray[np.uint8], frames_per_patch: int, settings: PatchSettings
) -> tuple[NDArray[np.uint8], Grid]:
    """Frames, whose sides are multiples of the factor, as patches [N, C * frames_per_patch * patch * patch].

    Values of a patch are ordered by channel, frame, row, column.
    """
    num_frames, height, width, channels = frames_THWC.shape
    patch, merge = settings.patch_size, settings.merge_size
    grid = (num_frames // frames_per_patch, height // patch, width // patch)
    blocks = frames_THWC.reshape(
        grid[0], frames_per_patch, grid[1] // merge, merge, patch, grid[2] // merge, merge, patch, channels
    )
    # (pair, block row, block column, row, column, channel, frame, y, x)
    ordered = blocks.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return np.ascontiguousarray(ordered).reshape(math.prod(grid), -1), grid


def shrunk(side: int, shrink: float, factor: int) -> int:
    """A side divided by ``shrink``, down to a multiple of ``factor``, at least one."""
    return max(factor, math.floor(side / shrink / factor) * factor)
