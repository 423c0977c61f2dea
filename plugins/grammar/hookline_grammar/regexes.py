"""What the backends' regular expressions have in common: which are wrong, and which are only beyond a backend."""

from __future__ import annotations

import re
from typing import NoReturn

from hookline.errors import RequestError
from hookline.interfaces.grammar import UnsupportedGrammarError


def check_regex(source: str) -> None:
    """``RequestError`` for what cannot be a pattern at all."""
    try:
        source.encode()
    except UnicodeEncodeError as exc:
        raise RequestError(f"regex holds half a character: {source!a:.80}", param="regex") from exc


def refuse_regex(backend: str, source: str, reason: str) -> NoReturn:
    """``UnsupportedGrammarError`` for a pattern that Python understands, ``RequestError`` for any other."""
    message = f"regex does not compile with {backend}: {reason:.500}"
    try:
        re.compile(source)
    except (re.error, RecursionError, OverflowError) as exc:
        raise RequestError(message, param="regex") from exc
    raise UnsupportedGrammarError(message, param="regex")
