"""PixelSettings: what a preprocessor_config.json of CLIP or SigLIP does to a picture.

Shapes: H, W pixels of a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hookline.errors import ModelError

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BICUBIC = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSettings:
    """Resize, cut out the middle, and the values of pixels: (x * rescale_factor - mean) / std for each channel."""

    #: Length of the short side after resizing, or ``None`` where ``size`` decides both.
    shortest_edge: int | None
    #: (height, width) after resizing.
    size: tuple[int, int] | None
    #: (height, width) of the middle that is kept; ``None``: everything.
    crop: tuple[int, int] | None
    resample: int
    rescale_factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def read(directory: Path) -> PixelSettings:
        """Of a checkpoint; raises ``ModelError`` for what cannot be read or is not supported."""
        values = _read(directory)
        for name in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
            if values.get(name) is False:
                raise ModelError(f"the processor's {name}=false in '{directory}' is not supported")
        size = values.get("size") or {"shortest_edge": 224}
        edge = size if isinstance(size, int) else size.get("shortest_edge")
        crops = values.get("do_center_crop", "crop_size" in values)
        return PixelSettings(
            shortest_edge=edge,
            size=None if edge is not None else (size["height"], size["width"]),
            crop=_pair(values.get("crop_size") or 224) if crops else None,
            resample=_BICUBIC if values.get("resample") is None else values["resample"],
            rescale_factor=values.get("rescale_factor") or 1 / 255,
            mean=tuple(values.get("image_mean") or _CLIP_MEAN),
            std=tuple(values.get("image_std") or _CLIP_STD),
        )

    def apply(self, pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture, resized and cut: uint8 [3, H, W]."""
        height, width = self._resized(*pixels_HWC.shape[:2])
        picture = Image.fromarray(pixels_HWC).resize((width, height), Image.Resampling(self.resample))
        found = np.asarray(picture)
        if self.crop is not None:
            found = _middle(found, *self.crop)
        return np.ascontiguousarray(found.transpose(2, 0, 1))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.shortest_edge is None:
            assert self.size is not None
            return self.size
        short, long = min(height, width), max(height, width)
        longer = int(self.shortest_edge * long / short)
        return (self.shortest_edge, longer) if height <= width else (longer, self.shortest_edge)


def _middle(pixels_HWC: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle of a picture, with black around one that is too small."""
    have_height, have_width = pixels_HWC.shape[:2]
    top, left = (have_height - height) // 2, (have_width - width) // 2
    if top >= 0 and left >= 0:
        return pixels_HWC[top : top + height, left : left + width]
    new_height, new_width = max(height, have_height), max(width, have_width)
    canvas = np.zeros((new_height, new_width, 3), dtype=np.uint8)
    above, before = -((have_height - new_height) // 2), -((have_width - new_width) // 2)
    canvas[above : above + have_height, before : before + have_width] = pixels_HWC
    top, left = (new_height - height) // 2, (new_width - width) // 2
    return canvas[top : top + height, left : left + width]


def _pair(size: int | Mapping[str, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size["height"], size["width"])


def _read(directory: Path) -> Mapping[str, Any]:
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        file = directory / name
        if not file.is_file():
            continue
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise ModelError(f"cannot read '{file}': {exc}") from exc
        found = values if key is None else values.get(key)
        if isinstance(found, dict):
            return found
    return {}
