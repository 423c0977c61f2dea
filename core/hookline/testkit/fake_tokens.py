"""What the fake device computes.

The "KV" of a token is a hash of all tokens up to it, and what is sampled is a function of that hash. Chunks, cached
prefixes, retraction and overlap must therefore give the same output. Media take part like tokens: a row of an item
stands for a number that its digest decides.
"""

from __future__ import annotations

from collections.abc import Iterable

_MASK = (1 << 64) - 1
_PRIME = 0x9E3779B97F4A7C15


def next_hash(state: int, token_id: int) -> int:
    """The KV of a token after the KV of the one before it."""
    bits = ((state ^ (token_id + 1)) * _PRIME) & _MASK
    return bits ^ (bits >> 29)


def start_hash(adapter: str = "", weights: int = 0) -> int:
    """The KV before the first token: other weights or adapters give other KV."""
    state = 0x243F6A8885A308D3 + weights
    for char in adapter:
        state = next_hash(state, ord(char))
    return state


def row_token(digest: bytes, row: int) -> int:
    """The number that a row of an item stands for."""
    return next_hash(int.from_bytes(digest, "little") & _MASK, row)


def pick(state: int, vocab_size: int, choice_index: int = 0) -> int:
    """The token that follows a prefix of that hash."""
    return int((next_hash(state, choice_index + 7) >> 11) % vocab_size)


def token_logprob(state: int, token_id: int) -> float:
    """Log-probability of a token after a prefix."""
    return -float(next_hash(state, token_id) % 10_000) / 1000


def expected_output(
    prompt: Iterable[int],
    num_tokens: int,
    vocab_size: int,
    *,
    ends: Iterable[int] = (),
    min_new_tokens: int = 0,
    choice_index: int = 0,
    adapter: str = "",
    weights: int = 0,
) -> list[int]:
    """What the fake generates for a prompt, an end token included."""
    ends = frozenset(ends)
    state = start_hash(adapter, weights)
    for token_id in prompt:
        state = next_hash(state, token_id)
    output: list[int] = []
    while len(output) < num_tokens:
        token_id = pick(state, vocab_size, choice_index)
        if len(output) < min_new_tokens:
            while token_id in ends:
                token_id = (token_id + 1) % vocab_size
        output.append(token_id)
        if token_id in ends:
            break
        state = next_hash(state, token_id)
    return output
