"""Videos as patches: which frames are taken, how large they become, and what times their pairs have.

All of it as transformers' video processor for Qwen3-VL does it. T is the number of frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hookline.errors import RequestError
from hookline_models.qwen3_vl.images import Grid, check_aspect, patchify, shrunk
from hookline_models.qwen3_vl.resample import resize_frames
from hookline_models.qwen3_vl.settings import VideoSettings

#: Frames per second of a video that does not say.
DEFAULT_FPS = 24.0
#: With a cap for each frame, all of them get at least this share of the least pixels.
_CAP_SLACK = 1.05


def sample_indices(total: int, fps: float | None, settings: VideoSettings) -> list[int]:
    """Which frames of a video are taken: ``settings.fps`` of them a second, evenly spread, first and last included.

    ``total`` is the number of frames, ``fps`` how many of them are a second. Raises ``RequestError`` for a video
    without frames.
    """
    if total < 1:
        raise RequestError("the video has no frames")
    if not settings.sample_frames:
        return list(range(total))
    count = settings.num_frames
    if count is None:
        wanted = int(total / (fps or DEFAULT_FPS) * settings.fps)
        count = min(max(wanted, settings.min_frames), settings.max_frames, total)
    return [int(index) for index in np.linspace(0, total - 1, count).round()]


def pair_times(indices: Sequence[int], fps: float | None, pair: int) -> list[float]:
    """Seconds of each pair of frames: the mean of its first and its last. An incomplete pair repeats its last."""
    padded = [*indices, *[indices[-1]] * (-len(indices) % pair)]
    rate = fps or DEFAULT_FPS
    return [(padded[i] / rate + padded[i + pair - 1] / rate) / 2 for i in range(0, len(padded), pair)]


def video_size(num_frames: int, height: int, width: int, settings: VideoSettings) -> tuple[int, int]:
    """(height, width) to which frames are resized. Raises ``RequestError`` beyond an aspect of 200."""
    patches = settings.patches
    factor, pair = patches.factor, patches.temporal_patch_size
    # A single frame is seen as a pair of equal ones.
    num_frames = max(num_frames, pair)
    max_pixels = _max_pixels(num_frames, settings)
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    check_aspect(height, width)
    new_height, new_width = (round(side / factor) * factor for side in (height, width))
    volume = round(num_frames / pair) * pair * new_height * new_width
    if volume > max_pixels:
        shrink = math.sqrt((num_frames * height * width) / max_pixels)
        return shrunk(height, shrink, factor), shrunk(width, shrink, factor)
    if volume < settings.min_pixels:
        grow = math.sqrt(settings.min_pixels / (num_frames * height * width))
        return math.ceil(height * grow / factor) * factor, math.ceil(width * grow / factor) * factor
    return new_height, new_width


def video_patches(frames_THWC: NDArray[np.uint8], settings: VideoSettings) -> tuple[NDArray[np.uint8], Grid]:
    """Patches [N, C * pair * patch * patch] in bytes, and the grid (pairs, rows, columns).

    An odd number of frames repeats the last. Raises ``RequestError`` for frames that are too long.
    """
    pair = settings.patches.temporal_patch_size
    num_frames, height, width = frames_THWC.shape[:3]
    resized = resize_frames(frames_THWC, *video_size(num_frames, height, width, settings))
    missing = -len(resized) % pair
    if missing:
        resized = np.concatenate([resized, np.repeat(resized[-1:], missing, axis=0)])
    return patchify(resized, pair, settings.patches)


def _max_pixels(num_frames: int, settings: VideoSettings) -> int:
    """Of all frames together."""
    if not settings.cap_pixels_per_frame:
        return settings.max_pixels
    cap = settings.max_video_tokens * settings.patches.factor**2
    share = min(cap, settings.max_pixels // num_frames)
    return max(share, int(settings.min_pixels * _CAP_SLACK)) * num_frames
