"""Prompts as requests give them: text or token ids, one or several."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import WithJsonSchema

from hookline.errors import RequestError

Prompt = str | list[int]

_TEXT: dict[str, Any] = {"type": "string"}
_IDS: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}


def _lists_too(*kinds: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*kinds, *({"type": "array", "items": kind} for kind in kinds)]}


# Fields of request bodies. Not checked by pydantic: a union of lists costs a pass over a long prompt for each
# member, and answers one wrong entry with a fault for every entry.
PromptField = Annotated[Any, WithJsonSchema(_lists_too(_TEXT, _IDS))]
TextField = Annotated[Any, WithJsonSchema(_lists_too(_TEXT))]
TokensField = Annotated[Any, WithJsonSchema(_lists_too(_IDS))]


def read_prompts(value: Any, *, field: str) -> tuple[list[Prompt], bool]:
    """(prompts, whether it was a list of them). ``value`` is text, token ids, or a list of either.

    Raises ``RequestError`` for anything else and for an empty list.
    """
    found: list[Prompt] = [*(_texts(value) or _token_lists(value) or [])]
    if not found or [] in found:
        raise _bad(value, field, "a string, a list of token ids, or a list of one kind of these, none of them empty")
    return found, isinstance(value, list) and not _is_id(value[0])


def read_texts(value: Any, *, field: str) -> tuple[list[str], bool]:
    """As ``read_prompts``, for text alone. The list may be empty."""
    texts = _texts(value)
    if texts is None:
        raise _bad(value, field, "a string or a list of strings")
    return texts, isinstance(value, list)


def read_token_lists(value: Any, *, field: str) -> tuple[list[list[int]], bool]:
    """As ``read_prompts``, for token ids alone. Lists may be empty."""
    lists = _token_lists(value)
    if lists is None:
        raise _bad(value, field, "a list of token ids or a list of such lists")
    return lists, bool(value) and isinstance(value[0], list)


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _token_lists(value: Any) -> list[list[int]] | None:
    if not isinstance(value, list):
        return None
    if all(_is_id(item) for item in value):
        return [value]
    whole = all(isinstance(item, list) and all(_is_id(token) for token in item) for item in value)
    return value if whole else None


def _is_id(value: Any) -> bool:
    # Not isinstance: true is no token.
    return type(value) is int


def _bad(value: Any, field: str, allowed: str) -> RequestError:
    return RequestError(f"{field} must be {allowed}, not {value!r:.80}", param=field)
