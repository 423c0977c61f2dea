"""Training sees the pixels that the checkpoint's processors make."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from training.pixels import clip_patches, normalise, pair_times, picture_patches, smart_size
from training.scenes import draw_clip, draw_scene, render, render_frames
from training.template import CHECKPOINT

SIZES = [(64, 64), (100, 70), (224, 224), (640, 480), (33, 90), (200, 64), (400, 300)]


@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_processed_as_by_the_image_processor(size: tuple[int, int]) -> None:
    image = render(draw_scene(random.Random(0), [size]))
    patches, grid = picture_patches(image)
    expected = Qwen2VLImageProcessorPil.from_pretrained(CHECKPOINT)([image], return_tensors="pt")
    assert expected["image_grid_thw"].tolist() == [list(grid)]
    torch.testing.assert_close(normalise(torch.from_numpy(patches)), expected["pixel_values"])


def test_sizes_are_multiples_of_32_within_the_limits() -> None:
    for size in [*SIZES, (1920, 1080), (8, 8), (20, 300)]:
        width, height = smart_size(*size)
        assert width % 32 == height % 32 == 0
        assert 64 * 64 <= width * height <= 192 * 192


def test_clip_patches_pair_frames_and_repeat_an_odd_last_one() -> None:
    frames = [Image.new("RGB", (64, 32), (value, value, value)) for value in (10, 20, 30)]
    patches, grid = clip_patches(frames)
    assert grid == (2, 2, 4)
    by_frame = patches.reshape(2, 8, 3, 2, 256)
    assert np.unique(by_frame[0, :, :, 0]).tolist() == [10]
    assert np.unique(by_frame[0, :, :, 1]).tolist() == [20]
    assert np.unique(by_frame[1]).tolist() == [30]


def test_a_pair_has_the_mean_time_of_its_frames() -> None:
    assert pair_times((0, 10, 20), 10.0) == [0.5, 2.0]


def test_a_moving_shape_stays_in_the_picture() -> None:
    for seed in range(20):
        clip = draw_clip(random.Random(seed), None)
        background = Image.new("RGB", (clip.width, clip.height), clip.background)
        assert all(frame.tobytes() != background.tobytes() for frame in render_frames(clip))
