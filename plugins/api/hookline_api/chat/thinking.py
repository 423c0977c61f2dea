"""How much a model is to think: efforts in words, and bounds in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookline.interfaces.api import Serving

#: The effort that asks for no reasoning.
_NONE = "none"


def effort_kwargs(effort: str | None) -> dict[str, Any]:
    """What an effort says to a chat template. Templates call the switch by two names."""
    if effort is None:
        return {}
    off = {"enable_thinking": False, "thinking": False} if effort == _NONE else {}
    return {"reasoning_effort": effort, **off}


def thinking_limit(
    serving: Serving, limit: int | None, effort: str | None, effort_tokens: Mapping[str, int]
) -> dict[str, int]:
    """``max_thinking_tokens`` as a sampling parameter: the request's own, or what its effort is worth here.

    An effort bounds nothing on a server that does not know where reasoning ends; a limit is an error there.
    """
    if limit is not None:
        return {"max_thinking_tokens": limit}
    worth = {_NONE: 0, **effort_tokens}.get(effort or "")
    return {"max_thinking_tokens": worth} if worth is not None and can_bound(serving) else {}


def can_bound(serving: Serving) -> bool:
    """Whether the server separates reasoning, and so may know where it ends."""
    return any(spec["kind"] == "reasoning_parsers" for spec in serving.plugin_report().get("chosen", ()))
