"""Processor files of checkpoints, as settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hookline.errors import ModelError
from hookline_models.qwen3_vl.settings import ImageSettings, VideoSettings, read_settings

IMAGE: dict[str, Any] = {
    "patch_size": 14,
    "merge_size": 3,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "size": {"shortest_edge": 100, "longest_edge": 900},
}
VIDEO: dict[str, Any] = {
    "fps": 4,
    "max_frames": 16,
    "do_sample_frames": False,
    "size": {"shortest_edge": 7, "longest_edge": 70},
}


def _write(directory: Path, **files: Any) -> Path:
    for name, values in files.items():
        (directory / f"{name}.json").write_text(json.dumps(values))
    return directory


def _check(image: ImageSettings, video: VideoSettings) -> None:
    assert (image.patches.factor, image.patches.mean, image.patches.std) == (42, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (image.min_pixels, image.max_pixels) == (100, 900)
    assert (video.fps, video.max_frames, video.min_frames, video.sample_frames) == (4, 16, 4, False)
    assert (video.min_pixels, video.max_pixels) == (7, 70)


def test_a_file_for_each_kind(tmp_path: Path) -> None:
    _check(*read_settings(_write(tmp_path, preprocessor_config=IMAGE, video_preprocessor_config=VIDEO)))


def test_one_file_for_both(tmp_path: Path) -> None:
    both = {"image_processor": IMAGE, "video_processor": VIDEO}
    _check(*read_settings(_write(tmp_path, processor_config=both)))


def test_limits_at_the_top_win() -> None:
    assert ImageSettings.of({**IMAGE, "min_pixels": 200}).min_pixels == 200


def test_without_files_defaults_hold(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == (ImageSettings(), VideoSettings())


def test_what_is_not_implemented_is_refused() -> None:
    with pytest.raises(ModelError, match="do_normalize=false is not supported"):
        ImageSettings.of({"do_normalize": False})


@pytest.mark.parametrize("text", ["{", "[]"])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        read_settings(tmp_path)
