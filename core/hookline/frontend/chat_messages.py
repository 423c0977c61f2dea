"""OpenAI message objects, made into what chat templates are written for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hookline.errors import RequestError

_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
#: Names under which clients and templates know a message's reasoning; the first is the standard one.
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_NOTHING: Mapping[str, str] = MappingProxyType({})


def normalize_messages(
    messages: Sequence[Mapping[str, Any]],
    *,
    keep_parts: bool,
    developer_as_system: bool,
    placeholders: Mapping[str, str] = _NOTHING,
) -> list[dict[str, Any]]:
    """Fresh copies with only plain values, so that rendering cannot change the request.

    Content parts become ``{"type": "text", "text": ...}`` if ``keep_parts``, else one string, joined by
    spaces. Media parts, whose kinds are in ``placeholders``, stay parts, or become those texts. ``None`` content
    becomes "", other ``None`` fields go away. Arguments of tool calls become objects. Raises ``RequestError`` naming
    the message at fault.
    """
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence) or not messages:
        raise RequestError("messages must be a list with at least one message", param="messages")
    contents = _Contents(keep_parts, placeholders)
    return [_message(message, f"messages[{i}]", contents, developer_as_system) for i, message in enumerate(messages)]


def _message(value: object, where: str, contents: _Contents, developer_as_system: bool) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise RequestError(f"{where} must be an object with role and content, not {value!r:.80}", param="messages")
    role = value.get("role")
    if not isinstance(role, str) or not role:
        raise RequestError(f"{where}.role must be a string such as 'user', not {role!r:.80}", param="messages")
    message = {key: _copy(item) for key, item in value.items() if item is not None}
    message["role"] = "system" if role == "developer" and developer_as_system else role
    message["content"] = contents.read(value.get("content"), where)
    if message.get("tool_calls"):
        message["tool_calls"] = _tool_calls(value["tool_calls"], where)
    else:
        message.pop("tool_calls", None)
    reasoning = next((message[key] for key in _REASONING_KEYS if key in message), None)
    if reasoning is not None:
        message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message


class _Contents:
    """Reads contents of messages for one template."""

    def __init__(self, keep_parts: bool, placeholders: Mapping[str, str]) -> None:
        self._keep_parts = keep_parts
        self._placeholders = placeholders

    def read(self, value: object, where: str) -> str | list[dict[str, Any]]:
        """A string, or parts."""
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if not isinstance(value, Sequence):
            raise RequestError(
                f"{where}.content must be a string or a list of parts, not {type(value).__name__}", param="messages"
            )
        parts = [self._part(part, f"{where}.content[{i}]") for i, part in enumerate(value)]
        if self._keep_parts:
            return parts
        return " ".join(part["text"] if "text" in part else self._placeholders[part["type"]] for part in parts)

    def _part(self, part: object, where: str) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(kind, str) and kind in self._placeholders:
            return {"type": kind}
        takes = " and ".join(["text", *sorted(self._placeholders)]) if self._placeholders else "text only"
        return {"type": "text", "text": _part_text(part, where, takes)}


def _part_text(part: object, where: str, takes: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise RequestError(f"{where} must be an object with a type, not {part!r:.80}", param="messages")
    if kind not in _TEXT_PARTS:
        place = part.get("place")
        if not isinstance(place, str):
            place = where
        raise RequestError(
            f"{place} is of type '{kind}', but this server takes {takes}; send parts of type 'text'",
            param=place.partition("[")[0],
            code="unsupported_content",
        )
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise RequestError(f"{where}.text must be a string, not {text!r:.80}", param="messages")
    return text


def _tool_calls(value: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RequestError(f"{where}.tool_calls must be a list, not {type(value).__name__}", param="messages")
    calls = []
    for i, call in enumerate(value):
        place = f"{where}.tool_calls[{i}]"
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(call, Mapping) or not isinstance(function, Mapping):
            raise RequestError(f"{place} must be an object with a function", param="messages")
        copied = {key: _copy(item) for key, item in call.items() if item is not None}
        copied["function"] = {**_copy(function), "arguments": _arguments(function.get("arguments"), place)}
        calls.append(copied)
    return calls


def _arguments(value: object, place: str) -> Any:
    """Templates print arguments with ``tojson``: a string would come out quoted twice."""
    if value is None or value == "":
        return {}
    if not isinstance(value, str):
        return _copy(value)
    try:
        return json.loads(value)
    except ValueError as exc:
        raise RequestError(f"{place}.function.arguments is not valid JSON: {exc}", param="messages") from exc


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    # A template could call methods of richer objects; it sees their type only.
    return f"<{type(value).__name__}>"
