"""The vocabulary as grammar engines want it: what each token spells."""

from __future__ import annotations

from hookline.interfaces.grammar import GrammarEnv


def spellings(env: GrammarEnv) -> list[bytes]:
    """Bytes of every token id below ``env.vocab_size``.

    Empty for ids that no grammar may produce: special tokens, end tokens and the padding of the logits.
    """
    tokenizer = env.tokenizer
    silent = tokenizer.special_ids | set(env.end_token_ids)
    return [b"" if index in silent else tokenizer.token_bytes(index) for index in range(env.vocab_size)]
