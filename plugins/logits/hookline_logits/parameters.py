"""Checks of the parameters that requests give to processors."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hookline.errors import RequestError


def as_mapping(name: str, params: Any, required: Collection[str], optional: Collection[str] = ()) -> Mapping[str, Any]:
    """``params`` as an object with all of ``required`` and nothing beyond ``optional``."""
    if not isinstance(params, Mapping):
        raise _error(name, f"needs an object with {', '.join(required)}, not {params!r:.60}")
    missing = [key for key in required if key not in params]
    if missing:
        raise _error(name, f"needs {' and '.join(missing)}")
    unknown = [str(key) for key in params if key not in required and key not in optional]
    if unknown:
        known = ", ".join([*required, *optional])
        raise _error(name, f"does not know {', '.join(unknown)} (known: {known})")
    return params


def integer(name: str, key: str, value: Any, low: int) -> int:
    """An integer of at least ``low``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise _error(name, f"{key} must be an integer of at least {low}, not {value!r:.40}")
    return value


def token_ids(name: str, key: str, value: Any, vocab_size: int, *, may_be_empty: bool = False) -> tuple[int, ...]:
    """A list of token ids within the vocabulary."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not (value or may_be_empty):
        raise _error(name, f"{key} must be a list of token ids, not {value!r:.60}")
    for token in value:
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < vocab_size:
            raise _error(name, f"{key} must hold token ids from 0 to {vocab_size - 1}, not {token!r:.40}")
    return tuple(value)


def _error(name: str, what: str) -> RequestError:
    return RequestError(f"logits processor '{name}' {what}", param=f"logits_processors.{name}")
