"""bad_words: sequences of tokens that may not occur in the output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hookline.errors import RequestError
from hookline.interfaces.logits import LogitsProcessor
from hookline_logits.parameters import as_mapping, token_ids

if TYPE_CHECKING:
    import torch

_NAME = "bad_words"
_MAX_WORDS = 1024


class BadWords(LogitsProcessor):
    """``{"token_ids": [[...], ...]}``: the last token of a sequence is forbidden after the others.

    A sequence may begin in the prompt. A word has several spellings in tokens; give each that matters.
    """

    def validate(self, params: Any, vocab_size: int) -> list[tuple[int, ...]]:
        values = as_mapping(_NAME, params, ["token_ids"])
        words = values["token_ids"]
        if not isinstance(words, Sequence) or isinstance(words, str) or not 1 <= len(words) <= _MAX_WORDS:
            raise RequestError(
                f"logits processor '{_NAME}' takes 1 to {_MAX_WORDS} lists of token ids, not {words!r:.60}",
                param=f"logits_processors.{_NAME}",
            )
        return [token_ids(_NAME, "token_ids", word, vocab_size) for word in words]

    def apply(
        self, logits_V: torch.Tensor, params: list[tuple[int, ...]], prompt_ids: list[int], output_ids: list[int]
    ) -> None:
        longest = max(len(word) for word in params)
        tail = _tail(prompt_ids, output_ids, longest - 1)
        forbidden = [word[-1] for word in params if _ends_with(tail, word[:-1])]
        if forbidden:
            logits_V[forbidden] = -math.inf


def _tail(prompt_ids: list[int], output_ids: list[int], count: int) -> tuple[int, ...]:
    """The last ``count`` tokens of the text."""
    missing = count - len(output_ids)
    head = prompt_ids[-missing:] if missing > 0 else []
    return tuple(head) + tuple(output_ids[-count:] if count else [])


def _ends_with(tail: tuple[int, ...], beginning: tuple[int, ...]) -> bool:
    return not beginning or tail[-len(beginning) :] == beginning
