"""Resizing of frames: bit for bit what torch's antialiased bicubic makes of uint8 tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hookline_models.qwen3_vl.resample import resize_frames

SIZES = [
    ((64, 96), (32, 64)),
    ((33, 47), (64, 96)),
    ((480, 640), (224, 320)),
    ((100, 100), (96, 96)),
    ((1, 1), (32, 32)),
    ((7, 300), (32, 1024)),
    ((50, 64), (50, 32)),
    ((1080, 31), (64, 32)),
    ((720, 1280), (640, 1152)),
    ((96, 96), (96, 96)),
    # So much smaller that sums need more than float32 has.
    ((900, 700), (64, 32)),
]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_every_pixel_is_torchs(old: tuple[int, int], new: tuple[int, int]) -> None:
    frames = np.random.default_rng(sum(old)).integers(0, 256, (3, *old, 3), dtype=np.uint8)
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(tensor, new, mode="bicubic", antialias=True, align_corners=False)
    np.testing.assert_array_equal(resize_frames(frames, *new), expected.permute(0, 2, 3, 1).numpy())


def test_extremes_stay_extremes() -> None:
    # Bicubic overshoots at edges: what is beyond a byte is cut off, not wrapped.
    frames = np.zeros((1, 40, 40, 3), dtype=np.uint8)
    frames[:, :, 20:] = 255
    assert {int(value) for value in resize_frames(frames, 32, 32)[0, :, [0, -1]].ravel()} == {0, 255}
