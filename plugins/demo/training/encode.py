"""Items as token ids, M-RoPE positions and patches."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from training.items import Item
from training.pixels import MERGE, Grid, Patches, clip_patches, pair_times, picture_patches
from training.scenes import Clip, Scene, render, render_frames
from training.template import CHECKPOINT, ChatTemplate

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    patches: Patches
    grid: Grid
    is_clip: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]  #: [3, length]
    prompt_len: int
    media: list[Media]
    visual: NDArray[np.int64]  #: indices of the pad tokens, in the order of the media's rows


class Encoder:
    def __init__(self, directory: Path = CHECKPOINT) -> None:
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.template = ChatTemplate(directory)
        self._image = self.tokenizer.token_to_id("<|image_pad|>")
        self._video = self.tokenizer.token_to_id("<|video_pad|>")

    def encode(self, item: Item, *, thinking: bool, rng: random.Random | None = None) -> Encoded:
        """Prompt and completion. With `rng` a clip is sometimes wrapped twice, as some processors do."""
        media = [_media(m) for m in item.media]
        prompt = self._expand(self.template.prompt(item, thinking=thinking), item, media, rng)
        prompt_ids = self.tokenizer.encode(prompt).ids
        answer_ids = self.tokenizer.encode(self.template.completion(item, thinking=thinking)).ids
        ids = np.array(prompt_ids + answer_ids, dtype=np.int64)
        visual = np.flatnonzero((ids == self._image) | (ids == self._video))
        return Encoded(
            ids=ids,
            positions=_positions(len(ids), visual, media),
            prompt_len=len(prompt_ids),
            media=media,
            visual=visual,
        )

    def _expand(self, prompt: str, item: Item, media: list[Media], rng: random.Random | None) -> str:
        """Replace each placeholder by its run of pads; a clip's pairs carry their times as text."""
        pieces, rest = [], prompt
        for content, m in zip(item.media, media, strict=True):
            marker = VIDEO if m.is_clip else IMAGE
            head, _, rest = rest.partition(marker)
            num_pads = m.grid[1] * m.grid[2] // MERGE**2
            if isinstance(content, Clip):
                times = pair_times(content.frame_indices, content.fps)
                run = "<|vision_start|>" + "<|video_pad|>" * num_pads + "<|vision_end|>"
                body = "".join(f"<{time:.1f} seconds>{run}" for time in times)
                if rng is not None and rng.random() < 0.3:
                    body = f"<|vision_start|>{body}<|vision_end|>"
            else:
                body = "<|vision_start|>" + "<|image_pad|>" * num_pads + "<|vision_end|>"
            pieces += [head, body]
        return "".join([*pieces, rest])


def _media(content: Scene | Clip) -> Media:
    if isinstance(content, Clip):
        patches, grid = clip_patches(render_frames(content))
        return Media(patches=patches, grid=grid, is_clip=True)
    patches, grid = picture_patches(render(content))
    return Media(patches=patches, grid=grid, is_clip=False)


def _positions(length: int, visual: NDArray[np.int64], media: list[Media]) -> NDArray[np.int64]:
    """Text counts up in all three rows; a run of pads spans its grid and advances by its longer side."""
    positions = np.empty((3, length), dtype=np.int64)
    done = position = taken = 0
    for m in media:
        rows, cols = m.grid[1] // MERGE, m.grid[2] // MERGE
        for _ in range(m.grid[0]):
            start = int(visual[taken])
            positions[:, done:start] = np.arange(position, position + start - done)
            position += start - done
            end = start + rows * cols
            positions[0, start:end] = position
            positions[1, start:end] = position + np.repeat(np.arange(rows), cols)
            positions[2, start:end] = position + np.tile(np.arange(cols), rows)
            position += max(rows, cols)
            done, taken = end, taken + rows * cols
    assert taken == len(visual), "pads and media do not match"
    positions[:, done:] = np.arange(position, position + length - done)
    return positions
