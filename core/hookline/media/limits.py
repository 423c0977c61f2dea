"""How large the files of media may be, and what is decoded of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from hookline.errors import RequestError
from hookline.interfaces.multimodal import IMAGE, MediaInput, MediaLimits

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


def file_limits(config: MultimodalConfig, one: MediaInput) -> MediaLimits:
    """Of each file of a medium; frames of a clip are pictures."""
    is_picture = one.kind == IMAGE or isinstance(one.source, (list, tuple))
    return MediaLimits(
        max_bytes=config.max_image_bytes if is_picture else config.max_video_bytes,
        timeout=config.media_timeout,
        max_redirects=config.max_media_redirects,
    )


def checked_file(data: bytes, limits: MediaLimits) -> bytes:
    """The file. Raises ``RequestError`` if it is too large."""
    if len(data) > limits.max_bytes:
        raise RequestError(f"it has {len(data)} bytes; at most {limits.max_bytes} are taken", code="media_too_large")
    return data
