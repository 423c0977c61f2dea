"""A processor whose items are the pixels themselves, and which does as the first pixel of a picture tells it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hookline.errors import RequestError
from hookline.interfaces.multimodal import (
    IMAGE,
    VIDEO,
    ClipInfo,
    DecodedImage,
    DecodedVideo,
    ExpandedPrompt,
    MediaParams,
    MultimodalProcessor,
    ProcessedItem,
    ProcessedMedia,
)

#: Red values of the first pixel.
DIES, HANGS, EATS_MEMORY, FAILS, REFUSES = 201, 202, 203, 204, 205
#: Ids of placeholders.
PICTURE, CLIP = 5, 6


class ToyProcessor(MultimodalProcessor):
    """One row for each line of a picture, and for each frame of a clip, which comes in items of two frames."""

    @property
    def placeholders(self) -> Mapping[str, str]:
        return {IMAGE: "<image>", VIDEO: "<video>"}

    def processing_key(self, kind: str, params: MediaParams) -> bytes:
        return repr(params).encode()

    def sample_frames(self, clip: ClipInfo, params: MediaParams) -> Sequence[int]:
        return range(params.num_frames or clip.num_frames)

    def process(self, media: DecodedImage | DecodedVideo, params: MediaParams) -> ProcessedMedia:
        if isinstance(media, DecodedImage):
            _obey(int(media.pixels[0, 0, 0]))
            return ProcessedMedia(kind=IMAGE, items=(_item(media.pixels),), facts={"max": params.max_pixels})
        items = tuple(_item(media.frames[start : start + 2]) for start in range(0, len(media.frames), 2))
        return ProcessedMedia(kind=VIDEO, items=items, facts={"indices": list(media.indices), "fps": media.info.fps})

    def expand(self, prompt: str | Sequence[int], media: Sequence[ProcessedMedia]) -> ExpandedPrompt:
        ids: Sequence[int] = self.env.tokenize(prompt) if isinstance(prompt, str) else prompt
        waiting = list(media)
        input_ids: list[int] = []
        places: dict[int, list[list[tuple[int, int]]]] = {}
        for token in ids:
            kind = {PICTURE: IMAGE, CLIP: VIDEO}.get(token)
            one = next((one for one in waiting if one.kind == kind), None)
            if one is None:
                input_ids.append(token)
                continue
            waiting.remove(one)
            places[id(one)] = []
            for item in one.items:
                places[id(one)].append([(len(input_ids), item.num_rows)])
                input_ids += [token] * item.num_rows
        if waiting:
            raise RequestError("there must be a placeholder for each medium", code="media_mismatch")
        spans = [span for one in media for span in places[id(one)]]
        positions = np.arange(len(input_ids), dtype=np.int64)[None]
        return ExpandedPrompt(input_ids=input_ids, spans=spans, positions=positions)


def _item(pixels: Any) -> ProcessedItem:
    return ProcessedItem(
        tensors={"pixels": pixels, "mean": np.array([pixels.mean()], np.float32)},
        grid=tuple(pixels.shape[:-1]),
        num_rows=len(pixels),
        cost=pixels.size,
    )


def _obey(red: int) -> None:
    if red == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    if red == HANGS:
        time.sleep(3600)
    if red == EATS_MEMORY:
        np.ones(8 << 30, np.uint8)
    if red == FAILS:
        raise ValueError("a bug")
    if red == REFUSES:
        raise RequestError("too red")
