"""Qwen3VLProcessor: pictures and videos as the model takes them, and their places in a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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
    ProcessorEnv,
)
from hookline_models.qwen3_vl.expansion import IMAGE_PAD, VIDEO_PAD, PlaceholderIds, expanded_ids, expanded_text
from hookline_models.qwen3_vl.images import Grid, image_patches
from hookline_models.qwen3_vl.positions import GridRun, mrope_positions
from hookline_models.qwen3_vl.settings import ImageSettings, PatchSettings, VideoSettings, read_settings
from hookline_models.qwen3_vl.video import pair_times, sample_indices, video_patches

_Settings = TypeVar("_Settings", ImageSettings, VideoSettings)
#: A video goes to the encoder in runs of pairs of at most about so many patches.
_PATCHES_PER_RUN = 4096


class Qwen3VLProcessor(MultimodalProcessor):
    """Equal to transformers' processor of the checkpoint, but that pixels stay bytes.

    An item has one tensor, "patches": uint8 [n, 768] for a picture, whose patches the model sees twice, and [n, 1536]
    for a run of pairs of frames, each row ordered by channel, frame, row and column.
    """

    def __init__(self, env: ProcessorEnv) -> None:
        """Raises ``ModelError`` when the checkpoint's processor files cannot be used."""
        super().__init__(env)
        self._image, self._video = read_settings(env.model.path)
        self._ids = PlaceholderIds.of(env.model.raw)

    @property
    def placeholders(self) -> Mapping[str, str]:
        return {IMAGE: IMAGE_PAD, VIDEO: VIDEO_PAD}

    def processing_key(self, kind: str, params: MediaParams) -> bytes:
        settings = self._image_settings(params) if kind == IMAGE else self._video_settings(params)
        return repr(settings).encode()

    def sample_frames(self, clip: ClipInfo, params: MediaParams) -> Sequence[int]:
        return sample_indices(clip.num_frames, clip.fps, self._video_settings(params))

    def process(self, media: DecodedImage | DecodedVideo, params: MediaParams) -> ProcessedMedia:
        if isinstance(media, DecodedImage):
            image = self._image_settings(params)
            patches, grid = image_patches(media.pixels, image)
            return ProcessedMedia(kind=IMAGE, items=(_item(patches, grid, image.patches),))
        video = self._video_settings(params)
        patches, grid = video_patches(media.frames, video)
        times = pair_times(media.indices, media.info.fps, video.patches.temporal_patch_size)
        return ProcessedMedia(kind=VIDEO, items=tuple(_runs(patches, grid, video.patches)), facts={"times": times})

    def expand(self, prompt: str | Sequence[int], media: Sequence[ProcessedMedia]) -> ExpandedPrompt:
        if isinstance(prompt, str):
            # Tokenized as a whole: the times of frames may merge with what stands beside them.
            input_ids = self.env.tokenize(expanded_text(prompt, media))
        else:
            input_ids = expanded_ids(prompt, media, self._ids, self.env.tokenize)
        runs = self._ids.runs_of(input_ids, media, merge=self._image.patches.merge_size)
        positions, delta = mrope_positions(len(input_ids), sorted((run for item in runs for run in item), key=_start))
        return ExpandedPrompt(
            input_ids=input_ids,
            spans=[[(run.start, run.end - run.start) for run in item] for item in runs],
            positions=positions,
            position_delta=delta,
        )

    def _image_settings(self, params: MediaParams) -> ImageSettings:
        return _with_pixels(self._image, params)

    def _video_settings(self, params: MediaParams) -> VideoSettings:
        settings = _with_pixels(self._video, params)
        if params.num_frames is not None:
            return replace(settings, num_frames=params.num_frames)
        return settings if params.fps is None else replace(settings, fps=float(params.fps), num_frames=None)


def _with_pixels(settings: _Settings, params: MediaParams) -> _Settings:
    """``settings`` with the limits of a request; a limit that would cross the other one moves it."""
    low, high = params.min_pixels, params.max_pixels
    if low is None:
        low = settings.min_pixels if high is None else min(settings.min_pixels, high)
    if high is None:
        high = max(settings.max_pixels, low)
    return replace(settings, min_pixels=low, max_pixels=high)


def _item(patches: NDArray[np.uint8], grid: Grid, settings: PatchSettings) -> ProcessedItem:
    return ProcessedItem(
        tensors={"patches": patches},
        grid=grid,
        num_rows=len(patches) // settings.merge_size**2,
        cost=len(patches),
    )


def _runs(patches: NDArray[np.uint8], grid: Grid, settings: PatchSettings) -> Iterator[ProcessedItem]:
    """Runs of whole pairs of frames: pairs do not see each other in the encoder."""
    num_pairs, rows, cols = grid
    step = max(1, _PATCHES_PER_RUN // (rows * cols))
    for first in range(0, num_pairs, step):
        pairs = min(step, num_pairs - first)
        part = patches[first * rows * cols : (first + pairs) * rows * cols]
        yield _item(part, (pairs, rows, cols), settings)


def _start(run: GridRun) -> int:
    return run.start
