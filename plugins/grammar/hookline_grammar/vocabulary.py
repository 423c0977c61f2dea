"""The vocabulary as grammar engines want it: what each token spells."""

from __future__ import annotations

from collections.abc import Collection

from hookline.interfaces.grammar import GrammarEnv

#: Begins the spelling of a special token: no text, which is UTF-8, ever holds it.
SPECIAL_MARK = b"\xff"


def spellings(env: GrammarEnv, special: Collection[int] = ()) -> list[bytes]:
    """Bytes of every token id below ``env.vocab_size``.

    Empty for ids that no grammar may produce: special tokens, end tokens and the padding of the logits. Those of
    ``special`` are marked instead, so that they can be named and never be written as text.
    """
    tokenizer = env.tokenizer
    silent = tokenizer.special_ids | set(env.end_token_ids)
    spelled = [b"" if index in silent else tokenizer.token_bytes(index) for index in range(env.vocab_size)]
    for index in special:
        spelled[index] = SPECIAL_MARK + tokenizer.token_bytes(index)
    return spelled
