"""Prompts as requests give them: text or token ids, one or several."""

from __future__ import annotations

from typing import Any

from hookline.errors import RequestError

Prompt = str | list[int]


def read_prompts(value: Any, *, field: str) -> tuple[list[Prompt], bool]:
    """(prompts, whether it was a list of them). ``value`` is text, token ids, or a list of either.

    Raises ``RequestError`` for anything else and for an empty list.
    """
    if isinstance(value, str):
        return [value], False
    if isinstance(value, list) and value:
        if all(_is_id(item) for item in value):
            return [value], False
        if all(isinstance(item, str) for item in value):
            return list(value), True
        if all(isinstance(item, list) and item and all(_is_id(part) for part in item) for item in value):
            return list(value), True
    raise RequestError(
        f"{field} must be a string, a list of token ids, or a list of one kind of these, and not empty; "
        f"it was {value!r:.80}",
        param=field,
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
