"""DecodeLimits: how large what is decoded may become."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from hookline.config.schema import MultimodalConfig


class DecodeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one medium."""

    #: Pixels of a picture, and of each frame of a clip.
    max_image_pixels: int
    #: Pixels of all frames of a clip that are taken.
    max_video_pixels: int

    @classmethod
    def of(cls, config: MultimodalConfig) -> DecodeLimits:
        """From the configuration."""
        return cls(
            max_image_pixels=int(config.max_image_megapixels * 1_000_000),
            max_video_pixels=int(config.max_video_megapixels * 1_000_000),
        )
