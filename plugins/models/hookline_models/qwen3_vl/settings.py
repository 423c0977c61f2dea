"""What the processor files of a Qwen3-VL checkpoint say, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hookline.errors import ModelError

_IMAGENET_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings:
    """How pixels become patches, and the values of those: (x * rescale_factor - mean) / std for each channel."""

    patch_size: int = 16
    merge_size: int = 2
    temporal_patch_size: int = 2
    mean: tuple[float, ...] = _IMAGENET_HALF
    std: tuple[float, ...] = _IMAGENET_HALF
    rescale_factor: float = 1 / 255
    #: Pillow's number of the filter: 3 is bicubic.
    resample: int = 3

    @property
    def factor(self) -> int:
        """Sides of pictures are multiples of this."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """The image processor: patches, and the pixels of one picture."""

    patches: PatchSettings = PatchSettings()
    min_pixels: int = 256 * 256
    max_pixels: int = 4096 * 4096

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From the object of a preprocessor_config.json. Raises ``ModelError`` for what is not implemented."""
        default = cls()
        low, high = _pixels(values, default.min_pixels, default.max_pixels)
        return cls(patches=_patches(values), min_pixels=low, max_pixels=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSettings:
    """The video processor: patches, the pixels of all frames together, and which frames are taken."""

    patches: PatchSettings = PatchSettings()
    min_pixels: int = 128 * 32 * 32
    max_pixels: int = 32 * 32 * 768
    fps: float = 2.0
    num_frames: int | None = None
    min_frames: int = 4
    max_frames: int = 768
    sample_frames: bool = True
    #: Whether a frame may have at most ``max_video_tokens`` tokens; transformers 5 has both behaviours.
    cap_pixels_per_frame: bool = False
    max_video_tokens: int = 768

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From the object of a video_preprocessor_config.json. Raises ``ModelError`` for what is not implemented."""
        default = cls()
        low, high = _pixels(values, default.min_pixels, default.max_pixels)
        names = ("fps", "num_frames", "min_frames", "max_frames", "max_video_tokens", "cap_pixels_per_frame")
        own = {name: values[name] for name in names if values.get(name) is not None}
        if "fps" in own:
            own["fps"] = float(own["fps"])
        if values.get("do_sample_frames") is not None:
            own["sample_frames"] = bool(values["do_sample_frames"])
        return cls(patches=_patches(values), min_pixels=low, max_pixels=high, **own)


def read_settings(model_path: str | Path) -> tuple[ImageSettings, VideoSettings]:
    """Of a checkpoint's directory: preprocessor_config.json and video_preprocessor_config.json, or the one
    processor_config.json that newer tools write. Raises ``ModelError`` if one cannot be read."""
    directory = Path(model_path)
    both = _read(directory / "processor_config.json")
    image = _read(directory / "preprocessor_config.json") or both.get("image_processor") or {}
    video = _read(directory / "video_preprocessor_config.json") or both.get("video_processor") or {}
    return ImageSettings.of(image), VideoSettings.of(video)


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ModelError(f"cannot read '{file}': {exc}") from exc
    if not isinstance(values, dict):
        raise ModelError(f"'{file}' must hold an object, not {type(values).__name__}")
    return values


def _patches(values: Mapping[str, Any]) -> PatchSettings:
    for name in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
        if values.get(name) is False:
            raise ModelError(f"the processor's {name}=false is not supported")
    default = PatchSettings()
    return PatchSettings(
        patch_size=values.get("patch_size") or default.patch_size,
        merge_size=values.get("merge_size") or default.merge_size,
        temporal_patch_size=values.get("temporal_patch_size") or default.temporal_patch_size,
        mean=tuple(values.get("image_mean") or default.mean),
        std=tuple(values.get("image_std") or default.std),
        rescale_factor=values.get("rescale_factor") or default.rescale_factor,
        resample=default.resample if values.get("resample") is None else values["resample"],
    )


def _pixels(values: Mapping[str, Any], low: int, high: int) -> tuple[int, int]:
    size = values.get("size") or {}
    low = values.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels") or low
    high = values.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels") or high
    return int(low), int(high)
