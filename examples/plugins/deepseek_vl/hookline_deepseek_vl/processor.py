"""What becomes of a picture before it reaches the model. Runs in the frontend, where there is no torch.

Shapes: H, W pixels; S the side of the square that the tower takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

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

PLACEHOLDER = "<image_placeholder>"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


class DeepseekVLProcessor(MultimodalProcessor):
    """The longer side becomes S, and a band in the mean colour makes the picture square."""

    def __init__(self, env: ProcessorEnv) -> None:
        super().__init__(env)
        vision = env.model.raw["vision_config"]
        self._side: int = vision["image_size"]
        self._patches = self._side // vision["patch_size"]
        self._token_id: int = env.model.raw["image_token_id"]
        file = env.model.path / "preprocessor_config.json"
        values: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        self._least: int = values.get("min_size", 14)
        self._colour = tuple(int(part * 255) for part in values.get("image_mean") or CLIP_MEAN)

    @property
    def placeholders(self) -> Mapping[str, str]:
        return {IMAGE: PLACEHOLDER}

    def processing_key(self, kind: str, params: MediaParams) -> bytes:
        # Pictures with equal bytes and equal keys are one item in all caches.
        return repr((self._side, self._least, self._colour)).encode()

    def process(self, media: DecodedImage | DecodedVideo, params: MediaParams) -> ProcessedMedia:
        if isinstance(media, DecodedVideo):
            raise RequestError("this model takes pictures, no video")
        # Pixels stay bytes: a quarter of the memory on the way, and the device has time to normalise them.
        pixels = np.ascontiguousarray(self._square(media.pixels).transpose(2, 0, 1))
        count = self._patches**2
        grid = (self._patches, self._patches)
        item = ProcessedItem(tensors={"pixels": pixels}, grid=grid, num_rows=count, cost=count)
        return ProcessedMedia(kind=IMAGE, items=(item,))

    def expand(self, prompt: str | Sequence[int], media: Sequence[ProcessedMedia]) -> ExpandedPrompt:
        count = self._patches**2
        if isinstance(prompt, str):
            found = prompt.count(PLACEHOLDER)
            ids = self.env.tokenize(prompt.replace(PLACEHOLDER, PLACEHOLDER * count))
        else:
            found = list(prompt).count(self._token_id)
            ids = [token for one in prompt for token in [one] * (count if one == self._token_id else 1)]
        places = [place for place, token in enumerate(ids) if token == self._token_id]
        if found != len(media) or len(places) != count * found:
            raise RequestError(f"the prompt has {found} placeholders {PLACEHOLDER} for {len(media)} pictures")
        # Positions count tokens, so none are given.
        return ExpandedPrompt(input_ids=ids, spans=[[(start, count)] for start in places[::count]])

    def _square(self, pixels_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """[S, S, 3]."""
        height, width = pixels_HWC.shape[:2]
        scale = self._side / max(height, width)
        size = (max(round(width * scale), self._least), max(round(height * scale), self._least))
        resized = np.asarray(Image.fromarray(pixels_HWC).resize(size, Image.Resampling.BICUBIC))
        canvas = np.empty((self._side, self._side, 3), dtype=np.uint8)
        canvas[:] = self._colour
        top, left = (self._side - size[1]) // 2, (self._side - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = resized
        return canvas
