"""Spellings, Marker: markers of text, followed token by token through outputs that may cut them anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from hookline.text.tokenizer import Tokenizer

    Bits = npt.NDArray[np.int32]

_BLANK = b" \t\r\n"


class Spellings:
    """What each token of a vocabulary spells. Takes a while to make: a pass over the vocabulary."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """``vocab_size``: rows of the logits."""
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.of = [tokenizer.token_bytes(index) for index in range(vocab_size)]
        self._ids: dict[bytes, list[int]] = {}
        self._by_first: dict[int, list[int]] = {}
        blank = []
        for index, spelt in enumerate(self.of):
            if spelt:
                self._ids.setdefault(spelt, []).append(index)
                self._by_first.setdefault(spelt[0], []).append(index)
                if not spelt.strip(_BLANK):
                    blank.append(index)
        self.everything = self.bits(range(vocab_size))
        #: Tokens of nothing but white space.
        self.blank = self.bits(blank)
        self._markers: dict[str, Marker] = {}

    def ids_of(self, spelt: bytes) -> list[int]:
        """Tokens of this spelling."""
        return self._ids.get(spelt, [])

    def beginning_with(self, start: bytes) -> list[int]:
        """Tokens that begin with ``start``, which is not empty."""
        return [index for index in self._by_first.get(start[0], ()) if self.of[index].startswith(start)]

    def bits(self, ids: Iterable[int]) -> Bits:
        """Tokens as a bitmask, int32 [V / 32]."""
        bits_W = np.zeros(-(-self.vocab_size // 32), dtype=np.uint32)
        for index in ids:
            bits_W[index // 32] |= np.uint32(1 << index % 32)
        return bits_W.view(np.int32)

    def marker(self, text: str) -> Marker:
        """The marker of this text; made once."""
        marker = self._markers.get(text)
        if marker is None:
            marker = self._markers[text] = Marker(text.encode(), self)
        return marker


class Marker:
    """One marker. Its states are how many of its bytes the output ends with."""

    def __init__(self, spelt: bytes, spellings: Spellings) -> None:
        self.spelt = spelt
        self._spellings = spellings
        self._links = _failure_links(spelt)
        self._inside = [index for index, token in enumerate(spellings.of) if spelt in token]
        self._crossing: dict[int, Bits] = {}
        self._continuing: dict[int, Bits] = {}
        self._next: dict[int, int] = {}

    def advance(self, state: int, piece: bytes) -> tuple[int, int | None]:
        """The state behind ``piece``, and where in it the marker ended; at its end the state is 0."""
        for at, byte in enumerate(piece):
            while state and self.spelt[state] != byte:
                state = self._links[state]
            if self.spelt[state] == byte:
                state += 1
            if state == len(self.spelt):
                return 0, at + 1
        return state, None

    def crossing(self, state: int) -> Bits:
        """Tokens that end the marker and go on with more than white space."""
        if state not in self._crossing:
            ids = set(self._inside)
            links = state
            while links:
                ids.update(self._spellings.beginning_with(self.spelt[links:]))
                links = self._links[links]
            self._crossing[state] = self._spellings.bits(index for index in ids if self._crosses(state, index))
        return self._crossing[state]

    def continuing(self, state: int) -> Bits:
        """Tokens that spell more of the marker and nothing else."""
        if state not in self._continuing:
            rest = self.spelt[state:]
            found = [self._spellings.ids_of(rest[:end]) for end in range(1, len(rest) + 1)]
            self._continuing[state] = self._spellings.bits(index for ids in found for index in ids)
        return self._continuing[state]

    def next_id(self, state: int) -> int | None:
        """The token with which the marker goes on, as the tokenizer writes it; ``None`` if no token can."""
        if state not in self._next:
            self._next[state] = self._next_id(self.spelt[state:])
        found = self._next[state]
        return None if found < 0 else found

    def _next_id(self, rest: bytes) -> int:
        try:
            first = self._spellings.tokenizer.encode(rest.decode(), add_special_tokens=False)[:1]
        except UnicodeDecodeError:
            first = []
        # Some tokenizers write a space before the first word.
        if first and self._spellings.of[first[0]] and rest.startswith(self._spellings.of[first[0]]):
            return first[0]
        found = [self._spellings.ids_of(rest[:end]) for end in range(len(rest), 0, -1)]
        return next((ids[0] for ids in found if ids), -1)

    def _crosses(self, state: int, index: int) -> bool:
        piece = self._spellings.of[index]
        _, end = self.advance(state, piece)
        return end is not None and bool(piece[end:].strip(_BLANK))


def is_blank(spelt: bytes) -> bool:
    """Whether it is white space and nothing else."""
    return bool(spelt) and not spelt.strip(_BLANK)


def begins_character(tail: bytes) -> bool:
    """Whether the bytes end in the midst of a character. At most the last three count."""
    for back in range(1, min(3, len(tail)) + 1):
        byte = tail[-back]
        if byte & 0xC0 != 0x80:
            return byte >= 0xC0 and back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
    return False


def _failure_links(spelt: bytes) -> list[int]:
    """For each state the longest other one that the same output is in."""
    links = [0] * (len(spelt) + 1)
    state = 0
    for at in range(1, len(spelt)):
        while state and spelt[at] != spelt[state]:
            state = links[state]
        if spelt[at] == spelt[state]:
            state += 1
        links[at + 1] = state
    return links
