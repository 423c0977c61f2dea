"""Whether a regex, written into a JSON document between quotes, leaves the document valid.

The libraries copy a ``pattern`` into their grammar for JSON as it stands. One that matches a quote, a backslash
or a control character then lets the output leave its string.
"""

from __future__ import annotations

import re

_PIECES = re.compile(
    r"\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\c.|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*(?:,\d*)?\}|\(\?(?:P?<\w+>|:)|.",
    re.DOTALL,
)
_SINGLE = re.compile(r"\[(?:[^\\^]|\\.)\]|\[\\(?:x..|u....)\]", re.DOTALL)
_NO_TEXT = frozenset("()*+?|^$")
_WIDE = frozenset({".", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S"})
_RAW = [chr(code) for code in range(0x20)] + ['"', "\\"]


def unsafe_piece(pattern: str, *, wide_are_safe: bool) -> str | None:
    """The first piece of a pattern that matches what a JSON string must escape, or ``None``.

    ``wide_are_safe``: the backend itself takes such characters out of classes, escapes like ``\\D`` and the dot.
    """
    for match in _PIECES.finditer(pattern):
        piece = match[0]
        if piece in _NO_TEXT or (piece[0] == "{" and len(piece) > 1) or piece[:2] == "(?":
            continue
        is_class = piece[0] == "[" and len(piece) > 1
        if wide_are_safe and (piece in _WIDE or (is_class and not _SINGLE.fullmatch(piece))):
            continue
        if _matches_raw(piece):
            return piece
    return None


def _matches_raw(piece: str) -> bool:
    try:
        compiled = re.compile(piece, re.DOTALL)
    except re.error:
        # Whatever it is, it cannot be judged.
        return True
    return any(compiled.fullmatch(character) for character in _RAW)
