"""How rows of logits are cut among programs. What is computed over parts is exact, so a cut changes no bits."""

from __future__ import annotations

#: Tokens that a program looks at in one go; parts are whole blocks.
BLOCK = 1024
#: Programs that keep a large device busy.
_PROGRAMS = 512
#: Parts of a row at most, so that one program can add them up.
MAX_PARTS = 64


def cut(num_rows: int, vocab_size: int) -> tuple[int, int]:
    """(parts of a row, tokens of each)."""
    blocks = max(1, -(-vocab_size // BLOCK))
    parts = max(1, min(MAX_PARTS, blocks, _PROGRAMS // num_rows))
    chunk = -(-blocks // parts)
    return -(-blocks // chunk), chunk * BLOCK
