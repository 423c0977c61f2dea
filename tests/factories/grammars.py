"""Driving grammar matchers: random outputs, chosen tokens, masks as sets."""

from __future__ import annotations

from random import Random

import numpy as np

from hookline.interfaces.grammar import GrammarBackend, GrammarEnv, GrammarMatcher
from hookline.text.tokenizer import Tokenizer


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
    """The ids that the mask allows; the mask lies between rows that must stay as they were."""
    mask_BW = np.full((3, -(-vocab_size // 32)), 0x55555555, dtype=np.int32)
    matcher.fill_bitmask(mask_BW, 1)
    assert (mask_BW[[0, 2]] == 0x55555555).all()
    bits = np.unpackbits(mask_BW[1].view(np.uint8), bitorder="little")
    return np.flatnonzero(bits).tolist()


def spell(tokenizer: Tokenizer, ids: list[int]) -> bytes:
    """The bytes of an output, its end tokens aside."""
    return b"".join(b"" if index in tokenizer.special_ids else tokenizer.token_bytes(index) for index in ids)


def random_output(backend: GrammarBackend, matcher: GrammarMatcher, random: Random, *, hurry_after: int) -> list[int]:
    """Tokens until the grammar ends, drawn from the masks.

    After ``hurry_after`` tokens it ends when it may, and closes strings, arrays and objects where it can.
    """
    tokenizer, size = backend.env.tokenizer, backend.env.vocab_size
    closing = [tokenizer.token_id(text) for text in ('"', "]", "}")]
    ids: list[int] = []
    while not matcher.is_terminated:
        choices = allowed(matcher, size)
        assert choices, spell(tokenizer, ids)
        if len(ids) >= hurry_after:
            ends = [index for index in backend.env.end_token_ids if index in choices]
            quick = ends or [index for index in closing if index in choices]
            choices = quick or choices
        token_id = random.choice(choices)
        assert matcher.accept_token(token_id)
        ids.append(token_id)
        assert len(ids) < hurry_after + 3000, spell(tokenizer, ids)
    return ids


def accepts(matcher: GrammarMatcher, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is an output that may end there. Every token must be in the mask if it is accepted."""
    for token_id in tokenizer.encode(text, add_special_tokens=False):
        if not matcher.accept_token(token_id):
            return False
    end = tokenizer.eos_token_id
    return end is not None and matcher.accept_token(end)
