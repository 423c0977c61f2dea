"""Pictures as patches: equal to transformers' Pillow processor, and normalised equal to 1e-6."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from hookline.errors import RequestError
from hookline_models.qwen3_vl.images import image_patches, smart_size
from hookline_models.qwen3_vl.settings import ImageSettings, PatchSettings

#: (height, width) of pictures: tiny, odd, long, exact multiples, larger than the limits.
SIZES = [(1, 1), (33, 47), (64, 64), (480, 640), (17, 1000), (1000, 17), (250, 333), (31, 6000)]


def _settings(**wishes: int) -> ImageSettings:
    return ImageSettings(**{"min_pixels": 64 * 64, "max_pixels": 256 * 256, **wishes})  # type: ignore[arg-type]


def _oracle(ours: ImageSettings) -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        temporal_patch_size=2,
        image_mean=list(ours.patches.mean),
        image_std=list(ours.patches.std),
        size={"shortest_edge": ours.min_pixels, "longest_edge": ours.max_pixels},
    )


def _normalised(patches: np.ndarray, ours: ImageSettings) -> np.ndarray:
    """The folded form that runs on the device, and each value twice: for both frames of a pair."""
    mean, std = (np.asarray(v, np.float64)[:, None, None] for v in (ours.patches.mean, ours.patches.std))
    factor = (ours.patches.rescale_factor / std).astype(np.float32)
    offset = (-mean / std).astype(np.float32)
    values = patches.reshape(len(patches), 3, 1, -1).astype(np.float32) * factor + offset
    return np.repeat(values, 2, axis=2).reshape(len(patches), -1)


@pytest.mark.parametrize("size", SIZES)
def test_patches_are_those_of_transformers(size: tuple[int, int]) -> None:
    ours = _settings()
    pixels = np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8)
    patches, grid = image_patches(pixels, ours)
    expected = _oracle(ours)(images=Image.fromarray(pixels), return_tensors="np")
    assert [list(grid)] == expected["image_grid_thw"].tolist()
    np.testing.assert_allclose(_normalised(patches, ours), expected["pixel_values"], rtol=0, atol=1e-6)


def test_other_means_and_deviations_fold_as_well() -> None:
    ours = ImageSettings(
        patches=PatchSettings(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711)),
        min_pixels=64 * 64,
        max_pixels=128 * 128,
    )
    pixels = np.random.default_rng(5).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    patches, _ = image_patches(pixels, ours)
    expected = _oracle(ours)(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(_normalised(patches, ours), expected, rtol=0, atol=1e-6)


@settings(max_examples=300)
@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    low=st.integers(1, 2**20),
    spread=st.integers(0, 2**22),
)
def test_sizes_are_those_of_transformers(height: int, width: int, low: int, spread: int) -> None:
    limits = {"min_pixels": low, "max_pixels": low + spread}
    try:
        expected = smart_resize(height, width, factor=32, **limits)
    except ValueError:
        with pytest.raises(RequestError, match="200 times"):
            smart_size(height, width, factor=32, **limits)
        return
    assert smart_size(height, width, factor=32, **limits) == expected


def test_a_line_of_pixels_is_refused() -> None:
    with pytest.raises(RequestError, match="10000x1 pixels: one side may be at most 200 times"):
        image_patches(np.zeros((1, 10000, 3), np.uint8), _settings())
