"""Placeholders of a prompt, each in the place of as many as its medium has embedding rows.

A picture is a run of pads. A video is, for each pair of frames, its time as text and a run of pads between marks of
vision; what stands around the placeholder in the prompt stays, as in transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hookline.errors import ModelError, RequestError
from hookline.interfaces.multimodal import IMAGE, VIDEO, ProcessedItem, ProcessedMedia
from hookline_models.qwen3_vl.positions import GridRun

IMAGE_PAD = "<|image_pad|>"
VIDEO_PAD = "<|video_pad|>"
_START = "<|vision_start|>"
_END = "<|vision_end|>"
_KIND_OF_TEXT = {IMAGE_PAD: IMAGE, VIDEO_PAD: VIDEO}
_PLACEHOLDER = re.compile("|".join(map(re.escape, _KIND_OF_TEXT)))


class _Queues:
    """The media that have not met their placeholder yet."""

    def __init__(self, media: Sequence[ProcessedMedia]) -> None:
        self._all = {kind: [one for one in media if one.kind == kind] for kind in (IMAGE, VIDEO)}
        self._taken = {IMAGE: 0, VIDEO: 0}

    def take(self, kind: str) -> ProcessedMedia | None:
        """The next medium of a kind, for a placeholder of it; ``None`` if there are no more."""
        place = self._taken[kind]
        self._taken[kind] += 1
        return self._all[kind][place] if place < len(self._all[kind]) else None

    def check(self) -> None:
        """Raises ``RequestError`` unless there was one placeholder for each medium."""
        for kind, media in self._all.items():
            if self._taken[kind] != len(media):
                raise RequestError(
                    f"the prompt has {self._taken[kind]} placeholders for media of kind {kind}, and {len(media)} are "
                    "given; there must be one for each",
                    code="media_mismatch",
                )


def expanded_text(prompt: str, media: Sequence[ProcessedMedia]) -> str:
    """A prompt as text. Raises ``RequestError`` unless it has one placeholder for each medium."""
    queues = _Queues(media)

    def fill(found: re.Match[str]) -> str:
        one = queues.take(_KIND_OF_TEXT[found.group()])
        return "" if one is None else _text_of(one)

    expanded = _PLACEHOLDER.sub(fill, prompt)
    queues.check()
    return expanded


def expanded_ids(
    prompt: Sequence[int], media: Sequence[ProcessedMedia], ids: PlaceholderIds, tokenize: Callable[[str], list[int]]
) -> list[int]:
    """A prompt as ids. Raises ``RequestError`` unless it has one placeholder for each medium."""
    queues = _Queues(media)
    expanded: list[int] = []
    for token in prompt:
        kind = ids.kind_of.get(token)
        one = None if kind is None else queues.take(kind)
        if one is None:
            expanded.append(token)
        elif one.kind == IMAGE:
            expanded += [token] * one.items[0].num_rows
        else:
            expanded += tokenize(_text_of(one))
    queues.check()
    return expanded


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceholderIds:
    """The ids of the pads."""

    #: Id -> kind of medium.
    kind_of: Mapping[int, str]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """From a config.json. Raises ``ModelError`` if it does not name them."""
        kind_of = {}
        for key, kind in (("image_token_id", IMAGE), ("video_token_id", VIDEO)):
            token = config.get(key)
            if not isinstance(token, int):
                raise ModelError(f"config.json must name the placeholder's id as '{key}', it says {token!r}")
            kind_of[token] = kind
        return cls(kind_of=kind_of)

    def runs_of(self, input_ids: Sequence[int], media: Sequence[ProcessedMedia], *, merge: int) -> list[list[GridRun]]:
        """Where the pads of each item stand, the items of a medium one after the other.

        Raises ``RequestError`` when the ids have not as many pads as the items have rows.
        """
        places: dict[str, list[int]] = {kind: [] for kind in self.kind_of.values()}
        for place, token in enumerate(input_ids):
            if token in self.kind_of:
                places[self.kind_of[token]].append(place)
        for kind, found in places.items():
            rows = sum(item.num_rows for one in media if one.kind == kind for item in one.items)
            if len(found) != rows:
                raise RequestError(
                    f"the prompt has {len(found)} placeholder tokens of kind {kind} where its media make {rows}; the "
                    "model's own placeholder must not stand in texts",
                    code="media_mismatch",
                )
        left = {kind: iter(found) for kind, found in places.items()}
        return [list(_runs(item, left[one.kind], merge)) for one in media for item in one.items]


def _runs(item: ProcessedItem, places: Iterator[int], merge: int) -> Iterator[GridRun]:
    """One run for each pair of frames; a picture is one pair."""
    num_pairs, rows, cols = item.grid[0], item.grid[1] // merge, item.grid[2] // merge
    for _ in range(num_pairs):
        start = next(places)
        for _ in range(rows * cols - 1):
            next(places)
        yield GridRun(start=start, rows=rows, cols=cols)


def _text_of(media: ProcessedMedia) -> str:
    if media.kind == IMAGE:
        return IMAGE_PAD * media.items[0].num_rows
    num_pads = media.items[0].num_rows // media.items[0].grid[0]
    run = f"{_START}{VIDEO_PAD * num_pads}{_END}"
    return "".join(f"<{time:.1f} seconds>{run}" for time in media.facts["times"])
