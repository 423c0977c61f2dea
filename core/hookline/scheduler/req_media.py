"""ReqMedia: the media of one request, checked and in the form that the scheduler uses.

Shape letters: P position planes, T prompt tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hookline.errors import RequestError
from hookline.interfaces.multimodal import EncoderItem

if TYPE_CHECKING:
    from hookline.messages.requests import MultimodalInputs
    from hookline.messages.segments import Segments

    IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MediaSpan:
    """A run of placeholders of one item in the prompt."""

    start: int
    length: int
    #: Index into the request's items, and the row that the first placeholder stands for.
    item: int
    first_row: int

    @property
    def end(self) -> int:
        """The position after the last placeholder."""
        return self.start + self.length


@dataclass(slots=True, kw_only=True, eq=False)
class ReqMedia:
    """Pictures, clips and the like of a request."""

    items: list[EncoderItem]
    #: Ascending by start, disjoint.
    spans: list[MediaSpan]
    #: [P, T], or ``None`` where positions count tokens.
    positions: IntArray | None
    #: What a position past the prompt is beyond the number of tokens before it.
    position_delta: int
    segments: Segments
    #: Items that the encoder cache keeps for the request.
    pinned: list[bytes]
    #: Items whose rows or KV were there when the request came to its turn.
    num_reused: int = 0
    #: The last pass that computed some of the prompt.
    last_prefill: int = 0

    def needed(self, start: int, end: int) -> list[EncoderItem]:
        """Items with a placeholder at positions ``start`` ... ``end`` - 1, each once, in order."""
        wanted = dict.fromkeys(span.item for span in self.spans if span.start < end and span.end > start)
        return [self.items[item] for item in wanted]

    def runs(self, start: int, end: int) -> Iterator[tuple[EncoderItem, int, int, int]]:
        """Placeholders at positions ``start`` ... ``end`` - 1: (item, first row, number, first position)."""
        for span in self.spans:
            first, last = max(span.start, start), min(span.end, end)
            if first < last:
                yield self.items[span.item], span.first_row + first - span.start, last - first, first

    def fill_positions(self, positions_PT: IntArray, start: int) -> None:
        """Set the positions of the tokens from ``start`` on that are in the prompt, in place."""
        if self.positions is not None:
            known = self.positions[:, start : start + positions_PT.shape[1]]
            positions_PT[:, : known.shape[1]] = known


def spans_of(inputs: MultimodalInputs, num_tokens: int) -> list[MediaSpan]:
    """The spans of all items in the order of the prompt; ``RequestError`` for any that cannot be."""
    spans = []
    for index, item in enumerate(inputs.items):
        row = 0
        for start, length in item.spans:
            spans.append(MediaSpan(start, length, index, row))
            row += length
        if len(item.digest) != 32 or row != item.num_rows or row < 1:
            raise _broken(f"item {index} has {row} placeholders for {item.num_rows} rows, digest {len(item.digest)}")
    spans.sort(key=lambda span: span.start)
    end = 0
    for span in spans:
        if span.length < 1 or span.start < end or span.end > num_tokens:
            raise _broken(f"item {span.item} has placeholders at {span.start} ... {span.end} of {num_tokens} tokens")
        end = span.end
    return spans


def positions_of(inputs: MultimodalInputs, num_tokens: int, num_planes: int, max_positions: int) -> IntArray | None:
    """[P, T] position planes; ``RequestError`` when they do not fit the model."""
    if not inputs.positions:
        if inputs.position_delta:
            raise _broken(f"a position delta of {inputs.position_delta} was given without positions")
        return None
    if not -num_tokens <= inputs.position_delta <= 0:
        raise _broken(f"the position delta is {inputs.position_delta} after {num_tokens} tokens")
    found = np.frombuffer(inputs.positions, dtype="<i8")
    if found.size != num_planes * num_tokens:
        raise _broken(f"{found.size} positions were given for {num_planes} planes of {num_tokens} tokens")
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < max_positions:
        raise _broken(f"positions run from {found.min()} to {found.max()}, the model knows {max_positions}")
    return found.reshape(num_planes, num_tokens)


def keyed_ids(prompt_ids: IntArray, spans: Sequence[MediaSpan], rows: Sequence[IntArray]) -> IntArray:
    """The prompt with the placeholders' own ids; ``rows`` are those of each item."""
    keyed = prompt_ids.copy()
    for span in spans:
        keyed[span.start : span.end] = rows[span.item][span.first_row : span.first_row + span.length]
    return keyed


def _broken(what: str) -> RequestError:
    return RequestError(
        f"the media of the request do not fit its prompt: {what}", code="internal_error", status_code=500
    )
