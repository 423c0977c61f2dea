"""LlavaProcessor: pictures as the tower takes them, and their places in a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hookline.errors import RequestError
from hookline.interfaces.multimodal import (
    IMAGE,
    DecodedImage,
    DecodedVideo,
    ExpandedPrompt,
    MediaParams,
    MultimodalProcessor,
    ProcessedItem,
    ProcessedMedia,
    ProcessorEnv,
)
from hookline_models.llava.config import LlavaConfig
from hookline_models.llava.pixels import PixelSettings

_IMAGE_TEXT = "<image>"


class LlavaProcessor(MultimodalProcessor):
    """Equal to transformers' processor of the checkpoint, but that pixels stay bytes.

    An item has one tensor, "pixels": uint8 [3, side, side]. All pictures become the tower's one size, so that limits
    on pixels change nothing.
    """

    def __init__(self, env: ProcessorEnv) -> None:
        """Raises ``ModelError`` when the checkpoint's files cannot be used."""
        super().__init__(env)
        self._config = LlavaConfig.of(env.model)
        self._pixels = PixelSettings.read(env.model.path)

    @property
    def placeholders(self) -> Mapping[str, str]:
        return {IMAGE: _IMAGE_TEXT}

    def processing_key(self, kind: str, params: MediaParams) -> bytes:
        return repr((self._pixels, self._config.image_size)).encode()

    def process(self, media: DecodedImage | DecodedVideo, params: MediaParams) -> ProcessedMedia:
        if isinstance(media, DecodedVideo):
            raise RequestError("this model takes pictures, no video")
        side = self._config.image_size
        pixels = self._pixels.apply(media.pixels)
        if pixels.shape != (3, side, side):
            raise RequestError(
                f"the checkpoint's processor makes pictures of {pixels.shape[2]}x{pixels.shape[1]} pixels, but its "
                f"tower takes {side}x{side}",
                code="internal_error",
                status_code=500,
            )
        grid = (self._config.grid_side, self._config.grid_side)
        item = ProcessedItem(
            tensors={"pixels": pixels}, grid=grid, num_rows=self._config.num_rows, cost=grid[0] * grid[1]
        )
        return ProcessedMedia(kind=IMAGE, items=(item,))

    def expand(self, prompt: str | Sequence[int], media: Sequence[ProcessedMedia]) -> ExpandedPrompt:
        if isinstance(prompt, str):
            self._check(len(re.findall(_IMAGE_TEXT, prompt)), len(media))
            input_ids = self.env.tokenize(prompt.replace(_IMAGE_TEXT, _IMAGE_TEXT * self._config.num_rows))
        else:
            self._check(list(prompt).count(self._config.image_token_id), len(media))
            input_ids = []
            for token in prompt:
                is_image = token == self._config.image_token_id
                input_ids += [token] * (self._config.num_rows if is_image else 1)
        places = [place for place, token in enumerate(input_ids) if token == self._config.image_token_id]
        size = self._config.num_rows
        self._check(len(places), len(media) * size)
        starts = places[::size]
        return ExpandedPrompt(input_ids=input_ids, spans=[[(start, size)] for start in starts])

    def _check(self, found: int, wanted: int) -> None:
        if found != wanted:
            raise RequestError(
                f"the prompt has {found} placeholders {_IMAGE_TEXT} where {wanted} are needed; there must be one for "
                "each picture",
                code="media_mismatch",
            )
