"""Incremental detokenizing: the text of a sequence, token by token, never half a character.

What a detokenizer gives, joined, depends on the tokens alone, not on when they were pushed. Streamed and
whole answers therefore agree, as do the scheduler, which looks for stops, and the detokenizer process.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Sequence

from hookline.text.tokenizer import Tokenizer

_UNKNOWN = "\ufffd"
#: A character has 4 bytes at most, so more tokens without one are not UTF-8 at all.
_MAX_HELD_TOKENS = 4


class IncrementalDetokenizer(ABC):
    """The text of one request's output."""

    @abstractmethod
    def push(self, token_id: int) -> str:
        """Text that this token completes; empty while it only begins a character."""

    @abstractmethod
    def flush(self) -> str:
        """Text that is still held, incomplete characters as U+FFFD. Ends the sequence."""


def incremental_detokenizer(
    tokenizer: Tokenizer,
    prompt_tail: Sequence[int] = (),
    *,
    skip_special_tokens: bool = True,
    spaces_between_special_tokens: bool = True,
) -> IncrementalDetokenizer:
    """A detokenizer for the tokens that follow ``prompt_tail``, the last few tokens of the prompt."""
    if tokenizer.is_byte_level:
        return _ByteDetokenizer(tokenizer, prompt_tail, skip_special_tokens)
    return _WindowDetokenizer(tokenizer, prompt_tail, skip_special_tokens, spaces_between_special_tokens)


class _ByteDetokenizer(IncrementalDetokenizer):
    """For tokenizers whose text is the bytes of its tokens, joined."""

    def __init__(self, tokenizer: Tokenizer, prompt_tail: Sequence[int], skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token_id in prompt_tail:
            self._feed(token_id)
        # A character that the prompt began and the output does not complete belongs to the prompt's text.
        self._prompt_is_open = bool(self._decoder.getstate()[0])

    def push(self, token_id: int) -> str:
        text = self._feed(token_id)
        if self._prompt_is_open and text:
            self._prompt_is_open = False
            return text.removeprefix(_UNKNOWN)
        return text

    def flush(self) -> str:
        text = self._decoder.decode(b"", final=True)
        return "" if self._prompt_is_open else text

    def _feed(self, token_id: int) -> str:
        if token_id in self._skipped:
            return ""
        return self._decoder.decode(self._tokenizer.text_bytes(token_id))


class _WindowDetokenizer(IncrementalDetokenizer):
    """For all other tokenizers: decode a short window with and without the new tokens, and give the difference.

    The window begins with the tokens that were given last, since a token's text depends on its neighbour.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_tail: Sequence[int],
        skip_special_tokens: bool,
        spaces_between_special_tokens: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._spaces = spaces_between_special_tokens
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        #: The window: ``_num_given`` tokens whose text was given, then those that are held.
        self._ids = [token_id for token_id in prompt_tail if token_id not in self._skipped]
        self._num_given = len(self._ids)
        self._given_text = self._decode(self._ids)
        #: Follows the bytes only to know whether a character is incomplete.
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token_id in self._ids:
            self._bytes.decode(tokenizer.token_bytes(token_id))

    def push(self, token_id: int) -> str:
        if token_id in self._skipped:
            return ""
        self._ids.append(token_id)
        if self._is_incomplete(token_id):
            return ""
        return self._give(self._decode(self._ids))

    def _is_incomplete(self, token_id: int) -> bool:
        """Whether the sequence ends within a character now."""
        self._bytes.decode(self._tokenizer.token_bytes(token_id))
        if self._bytes.getstate()[0]:
            return True
        if self._tokenizer.knows_bytes or len(self._ids) - self._num_given >= _MAX_HELD_TOKENS:
            return False
        window = self._decode(self._ids)
        return window.endswith(_UNKNOWN) or window == self._given_text

    def flush(self) -> str:
        if len(self._ids) == self._num_given:
            return ""
        return self._give(self._decode(self._ids))

    def _give(self, window: str) -> str:
        held = self._ids[self._num_given :]
        text = self._difference(window, held)
        self._ids = held
        self._num_given = len(held)
        self._given_text = self._decode(held)
        return text

    def _difference(self, window: str, held: list[int]) -> str:
        if window.startswith(self._given_text):
            return window[len(self._given_text) :]
        # The prompt ended within a character that the output completes.
        complete = self._given_text.rstrip(_UNKNOWN)
        if len(complete) < len(self._given_text) and window.startswith(complete):
            return window[len(complete) :]
        # The tokenizer cleans up across tokens: what was given cannot be taken back.
        return self._decode(held)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, spaces_between_special_tokens=self._spaces)
