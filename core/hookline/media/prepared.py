"""PreparedMedia: the media of a request, ready to be placed in its prompt and sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hookline.interfaces.multimodal import ExpandedPrompt, ProcessedItem, ProcessedMedia
from hookline.media.digests import item_digest
from hookline.media.jobs import ItemPlace
from hookline.messages.requests import MediaItem, MediaTensor, MultimodalInputs


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedMedium:
    """One medium: what the prompt needs of it, and where its arrays are."""

    digest: bytes
    #: Without tensors.
    media: ProcessedMedia
    #: The arrays of each item.
    tensors: list[list[MediaTensor]]

    @classmethod
    def in_segment(
        cls, kind: str, digest: bytes, items: Sequence[ItemPlace], facts: dict[str, Any], segment: str
    ) -> PreparedMedium:
        """One whose arrays lie in shared memory."""
        tensors = [
            [
                MediaTensor(name=one.name, dtype=one.dtype, shape=tuple(one.shape), segment=segment, offset=one.offset)
                for one in item.tensors
            ]
            for item in items
        ]
        bare = tuple(
            ProcessedItem(tensors={}, grid=tuple(item.grid), num_rows=item.num_rows, cost=item.cost) for item in items
        )
        return cls(digest=digest, media=ProcessedMedia(kind=kind, items=bare, facts=facts), tensors=tensors)

    @classmethod
    def in_process(cls, digest: bytes, media: ProcessedMedia) -> PreparedMedium:
        """One whose arrays go to a scheduler in this process."""
        tensors = [
            [
                MediaTensor(name=name, dtype=str(array.dtype), shape=array.shape, data=array)
                for name, array in item.tensors.items()
            ]
            for item in media.items
        ]
        return cls(digest=digest, media=media, tensors=tensors)


@dataclass(slots=True, kw_only=True)
class PreparedMedia:
    """All media of a request. ``release`` when no process reads their arrays any more."""

    media: list[PreparedMedium]
    on_release: Callable[[], None] = field(default=lambda: None)
    _is_released: bool = False

    def release(self) -> None:
        """Let go of them; again is no error."""
        if not self._is_released:
            self._is_released = True
            self.on_release()

    def num_tokens(self) -> dict[str, int]:
        """Kind -> embedding rows, which are tokens of the prompt."""
        counts: dict[str, int] = {}
        for medium in self.media:
            rows = sum(item.num_rows for item in medium.media.items)
            counts[medium.media.kind] = counts.get(medium.media.kind, 0) + rows
        return counts

    def inputs(self, expanded: ExpandedPrompt) -> MultimodalInputs:
        """The message for a prompt in which they have their places, in the order of these."""
        items = []
        spans = iter(expanded.spans)
        for medium in self.media:
            count = len(medium.media.items)
            for index, (item, tensors) in enumerate(zip(medium.media.items, medium.tensors, strict=True)):
                items.append(
                    MediaItem(
                        kind=medium.media.kind,
                        digest=item_digest(medium.digest, index, count),
                        spans=next(spans),
                        grid=item.grid,
                        num_rows=item.num_rows,
                        cost=item.cost,
                        tensors=tensors,
                    )
                )
        items.sort(key=lambda item: item.spans[0])
        positions = expanded.positions
        return MultimodalInputs(
            items=items,
            positions=b"" if positions is None else positions.astype("<i8").tobytes(),
            position_delta=expanded.position_delta,
        )
