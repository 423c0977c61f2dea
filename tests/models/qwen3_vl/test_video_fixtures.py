"""Videos as patches: equal to what transformers' processor made of them with torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hookline_models.qwen3_vl.settings import VideoSettings
from hookline_models.qwen3_vl.video import sample_indices, video_patches
from tests.factories.clips import CLIP_CASES, FRAMES, MAX_VIDEO_TOKENS, SIZE, ClipCase, clip_frames

FIXTURES = Path(__file__).with_name("fixtures")


@pytest.mark.parametrize("case", CLIP_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("cap", ["uncapped", "capped"])
def test_patches_are_those_of_the_processor(case: ClipCase, cap: str) -> None:
    settings = VideoSettings(
        min_pixels=SIZE["shortest_edge"],
        max_pixels=SIZE["longest_edge"],
        fps=FRAMES["fps"],
        min_frames=FRAMES["min_frames"],
        max_frames=FRAMES["max_frames"],
        sample_frames=case.sampled,
        cap_pixels_per_frame=cap == "capped",
        max_video_tokens=MAX_VIDEO_TOKENS,
    )
    with np.load(FIXTURES / f"video_{cap}.npz") as expected:
        indices = sample_indices(case.shape[0], case.fps, settings)
        assert indices == expected[f"{case.name}.indices"].tolist()
        patches, grid = video_patches(clip_frames(case.shape)[indices], settings)
        assert [list(grid)] == expected[f"{case.name}.grid"].tolist()
        np.testing.assert_array_equal(patches, expected[f"{case.name}.patches"])
