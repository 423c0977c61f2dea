"""Videos as patches: equal to transformers' video processor.

That processor resizes with torchvision, which calls torch's own resize for uint8; here it gets that function in
torchvision's place. Outputs of the processor with torchvision itself lie in fixtures (make_video_fixtures.py).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import image_processing_backends
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

from hookline.errors import RequestError
from hookline_models.qwen3_vl.settings import VideoSettings
from hookline_models.qwen3_vl.video import pair_times, sample_indices, video_patches, video_size

#: (frames, height, width): an odd number of frames, one below the factor, more than the limits allow.
CLIPS = [(4, 64, 96), (5, 50, 70), (2, 20, 33), (16, 240, 320), (3, 17, 600), (7, 128, 128)]


def _resize(video: torch.Tensor, size: tuple[int, int], interpolation: Any, antialias: bool) -> torch.Tensor:
    if tuple(video.shape[-2:]) == tuple(size):
        return video
    flat = video.flatten(0, -4)
    resized = torch.nn.functional.interpolate(flat, size, mode="bicubic", antialias=antialias, align_corners=False)
    return resized.reshape(*video.shape[:-2], *size)


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Qwen3VLVideoProcessor:
    stub = SimpleNamespace(
        resize=_resize,
        grayscale_to_rgb=lambda video: video,
        normalize=lambda video, mean, std, inplace=False: (video - mean[:, None, None]) / std[:, None, None],
        InterpolationMode=SimpleNamespace(BILINEAR="bilinear", LANCZOS="lanczos", BICUBIC="bicubic"),
    )
    for module in ("image_processing_backends", "video_processing_utils"):
        monkeypatch.setattr(f"transformers.{module}.tvF", stub, raising=False)
    monkeypatch.setattr(image_processing_backends, "pil_torch_interpolation_mapping", {3: "bicubic"}, raising=False)
    return Qwen3VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 16 * 128 * 128})


def _ours(**wishes: Any) -> VideoSettings:
    return VideoSettings(**{"min_pixels": 4096, "max_pixels": 16 * 128 * 128, **wishes})


@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize("shape", CLIPS)
def test_patches_are_those_of_transformers(
    processor: Qwen3VLVideoProcessor, shape: tuple[int, int, int], capped: bool
) -> None:
    frames = np.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=np.uint8)
    processor.max_video_tokens = 6
    expected = processor(videos=[frames], do_sample_frames=False, cap_pixels_per_frame=capped, return_tensors="pt")
    patches, grid = video_patches(frames, _ours(cap_pixels_per_frame=capped, max_video_tokens=6))
    assert [list(grid)] == expected["video_grid_thw"].tolist()
    values = patches.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    np.testing.assert_allclose(values, expected["pixel_values_videos"].numpy(), rtol=0, atol=1e-6)


@settings(max_examples=200)
@given(
    total=st.integers(1, 3000),
    fps=st.none() | st.floats(0.5, 240, allow_nan=False),
    rate=st.sampled_from([0.5, 1, 2, 3.7]),
    least=st.integers(1, 8),
    most=st.integers(8, 64),
)
def test_frames_are_those_of_transformers(total: int, fps: float | None, rate: float, least: int, most: int) -> None:
    reference = Qwen3VLVideoProcessor(min_frames=least, max_frames=most)
    expected = reference.sample_frames(VideoMetadata(total_num_frames=total, fps=fps), fps=rate)
    assert sample_indices(total, fps, _ours(fps=rate, min_frames=least, max_frames=most)) == expected.tolist()


@pytest.mark.parametrize("capped", [False, True])
@settings(max_examples=200)
@given(frames=st.integers(2, 800), height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_sizes_are_those_of_transformers(frames: int, height: int, width: int, capped: bool) -> None:
    size = {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768 * 16}
    reference = Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=capped)
    ours = VideoSettings(min_pixels=size["shortest_edge"], max_pixels=size["longest_edge"], cap_pixels_per_frame=capped)
    try:
        expected = reference.get_num_of_video_patches(frames, height, width)
    except ValueError:
        with pytest.raises(RequestError, match="200 times"):
            video_size(frames, height, width, ours)
        return
    rows, cols = (side // 16 for side in video_size(frames, height, width, ours))
    assert (frames + 1) // 2 * rows * cols == expected


def test_a_number_of_frames_can_be_asked_for() -> None:
    assert sample_indices(9, 30.0, _ours(num_frames=5)) == [0, 2, 4, 6, 8]


def test_frames_that_were_chosen_before_are_all_taken() -> None:
    assert sample_indices(3, None, _ours(sample_frames=False)) == [0, 1, 2]


def test_a_video_without_frames_is_refused() -> None:
    with pytest.raises(RequestError, match="no frames"):
        sample_indices(0, 24.0, _ours())


def test_times_are_means_of_pairs() -> None:
    assert pair_times([0, 10, 20], 10.0, 2) == [0.5, 2.0]
    assert pair_times([0, 24], None, 2) == [0.5]


def test_a_single_frame_is_a_pair_of_itself() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    patches, grid = video_patches(frame, _ours())
    assert grid == (1, 4, 4)
    pairs = patches.reshape(16, 3, 2, 256)
    np.testing.assert_array_equal(pairs[:, :, 0], pairs[:, :, 1])
