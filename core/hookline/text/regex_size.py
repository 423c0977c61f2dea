"""The size of a regex once its counted repeats are written out, as automata and some matchers do."""

from __future__ import annotations

import re

_PIECES = re.compile(r"\\N\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d*)(?:,(\d*))?\}|.", re.DOTALL)
_VERBOSE = re.compile(r"\(\?[aiLmsu]*x|\(\?#")


def expanded_length(pattern: str) -> int:
    """Items of a valid pattern when counted repeats are written out, nested ones multiplied.

    Raises ``ValueError`` for what makes a pattern hard to measure: comments, the verbose flag, and braces that
    are neither escaped nor a repeat.
    """
    if _VERBOSE.search(pattern):
        raise ValueError("comments and the verbose flag are not allowed")
    outer: list[int] = []
    total = last = 0
    for piece in _PIECES.finditer(pattern):
        text = piece[0]
        if text == "(":
            outer.append(total)
            total = last = 0
        elif text == ")":
            if not outer:
                raise ValueError("a parenthesis is closed that was not opened")
            last = max(total, 1)
            total = outer.pop() + last
        elif text.startswith("{"):
            counts = [int(count) for count in piece.groups() if count]
            if not counts:
                # Libraries differ in what a brace means elsewhere than in a repeat.
                raise ValueError(r"a brace that is no repeat such as {2,5} must be written \{")
            count = max(*counts, 1)
            total += last * (count - 1)
            last *= count
        elif text not in "*+?|^$":
            last = 1
            total += last
    return total
