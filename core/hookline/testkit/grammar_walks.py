"""Driving grammar matchers: masks as sets, texts in chosen tokens, random outputs."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

import numpy as np

from hookline.interfaces.grammar import GrammarEnv, GrammarMatcher
from hookline.text.tokenizer import Tokenizer

#: How a text is cut into tokens: as few as possible, as many as possible (single bytes), or at random.
Spelling = Literal["longest", "shortest", "random"]

_FILLER = np.int32(0x55555555)


def environment(tokenizer: Tokenizer, *, padding: int = 13, options: object = None, ends: bool = True) -> GrammarEnv:
    """A vocabulary with rows of the logits beyond the tokenizer's, so that the last word of masks is partial."""
    end = tokenizer.eos_token_id
    assert end is not None
    return GrammarEnv(
        tokenizer=tokenizer,
        vocab_size=tokenizer.vocab_size + padding,
        end_token_ids=(end,) if ends else (),
        options=options,
    )


def allowed(matcher: GrammarMatcher, vocab_size: int) -> list[int]:
    """The ids that the mask allows, bits beyond the vocabulary too; the rows around it must stay as they were."""
    mask_BW = np.full((3, -(-vocab_size // 32)), _FILLER, dtype=np.int32)
    matcher.fill_bitmask(mask_BW, 1)
    assert (mask_BW[[0, 2]] == _FILLER).all(), "only the given row may change"
    bits = np.unpackbits(mask_BW[1].view(np.uint8), bitorder="little")
    return np.flatnonzero(bits).tolist()


def spell(tokenizer: Tokenizer, ids: Sequence[int]) -> bytes:
    """The bytes of an output, its special tokens aside."""
    return b"".join(b"" if index in tokenizer.special_ids else tokenizer.token_bytes(index) for index in ids)


class Speller:
    """Writes texts in the tokens of a vocabulary, special ones aside."""

    def __init__(self, env: GrammarEnv) -> None:
        self._ids: dict[bytes, int] = {}
        for index in range(env.tokenizer.vocab_size):
            if index not in env.tokenizer.special_ids and index not in env.end_token_ids:
                self._ids.setdefault(env.tokenizer.token_bytes(index), index)
        self._ids.pop(b"", None)
        self._longest = max(map(len, self._ids))

    def ids(self, text: str, how: Spelling = "longest", seed: int = 0) -> list[int]:
        """Token ids whose bytes, joined, are the text's."""
        rest, ids, random = text.encode(), [], Random(seed)
        while rest:
            fitting = [self._ids[rest[:n]] for n in range(1, self._longest + 1) if rest[:n] in self._ids]
            lengths = [n for n in range(1, min(self._longest, len(rest)) + 1) if rest[:n] in self._ids]
            at = {"longest": -1, "shortest": 0, "random": random.randrange(len(lengths))}[how]
            ids.append(fitting[at])
            rest = rest[lengths[at] :]
        return ids


def accepts(matcher: GrammarMatcher, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text, as the tokenizer encodes it, is an output that may end there."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    end = tokenizer.eos_token_id
    return all(map(matcher.accept_token, ids)) and end is not None and matcher.accept_token(end)


def random_output(env: GrammarEnv, matcher: GrammarMatcher, random: Random, *, hurry_after: int) -> list[int]:
    """Tokens until the grammar ends, drawn from the masks.

    After ``hurry_after`` tokens it ends when it may, and closes strings, arrays and objects where it can.
    """
    closing = [env.tokenizer.token_id(text) for text in ('"', "]", "}")]
    ids: list[int] = []
    while not matcher.is_terminated:
        choices = allowed(matcher, env.vocab_size)
        assert choices, f"no token may follow {spell(env.tokenizer, ids)!r}"
        if len(ids) >= hurry_after:
            ends = [index for index in env.end_token_ids if index in choices]
            choices = ends or [index for index in closing if index in choices] or choices
        token_id = random.choice(choices)
        assert matcher.accept_token(token_id), f"token {token_id} is in the mask and is refused"
        ids.append(token_id)
        assert len(ids) < hurry_after + 3000, "the grammar does not come to an end"
    return ids
