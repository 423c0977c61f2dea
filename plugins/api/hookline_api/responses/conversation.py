"""From items and tools of the Responses API to the messages and tools that chat templates are written for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hookline.errors import RequestError
from hookline_api.chat.tools import ToolWish, read_tools

_TEXT_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_MEDIA = ("input_file", "input_audio")


def read_wish(
    tools: Sequence[Mapping[str, Any]] | None, choice: str | Mapping[str, Any] | None, parallel: bool | None
) -> ToolWish:
    """``tools`` and ``tool_choice``. Raises ``RequestError`` for malformed ones."""
    functions = [_function(tool, f"tools[{index}]") for index, tool in enumerate(tools or ())]
    if not isinstance(choice, Mapping):
        return read_tools(functions, choice, parallel)
    if choice.get("type") == "allowed_tools":
        allowed, mode = choice.get("tools"), choice.get("mode")
        if not isinstance(allowed, list) or mode not in ("auto", "required"):
            raise RequestError(
                "tool_choice of type 'allowed_tools' needs a list of tools, and a mode: 'auto' or 'required'",
                param="tool_choice",
            )
        names = [tool.get("name") if isinstance(tool, Mapping) else tool for tool in allowed]
        chosen = [function for function in functions if function["function"]["name"] in names]
        if not chosen:
            raise RequestError(f"tool_choice allows none of the tools ({names!r:.80})", param="tool_choice")
        return read_tools(chosen, mode, parallel)
    if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
        raise RequestError(
            "tool_choice must be 'none', 'auto', 'required', {\"type\": \"function\", \"name\": ...} or of type "
            f"'allowed_tools', not {dict(choice)!r:.80}",
            param="tool_choice",
        )
    return read_tools(functions, {"type": "function", "function": {"name": choice["name"]}}, parallel)


def read_items(given: str | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``input`` as items. Raises ``RequestError`` for an empty list."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not given:
        raise RequestError("input must be a string or a list with at least one item", param="input")
    return list(given)


def chat_messages(
    instructions: str | None, history: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """OpenAI's message objects for the items of a conversation, ``given`` being the new ones.

    Neighbouring reasoning, text and calls of the assistant become one message. Raises ``RequestError`` naming the
    item at fault.
    """
    chat = _Chat()
    if instructions:
        chat.messages.append({"role": "system", "content": instructions})
    for index, item in enumerate(history):
        chat.add(item, f"item {index} of the previous responses")
    for index, item in enumerate(given):
        chat.add(item, f"input[{index}]")
    return chat.messages


class _Chat:
    """A chat that grows item by item."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._calls: set[str] = set()

    def add(self, item: Mapping[str, Any], where: str) -> None:
        kind = item.get("type", "message")
        if kind == "message":
            self._add_message(item, where)
        elif kind == "reasoning":
            message = self._assistant()
            message["reasoning_content"] = message.get("reasoning_content", "") + _reasoning(item, where)
        elif kind == "function_call":
            self._calls.add(_string(item, "call_id", where))
            function = {"name": _string(item, "name", where), "arguments": _arguments(item, where)}
            call = {"id": item["call_id"], "type": "function", "function": function}
            self._assistant().setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            self._add_output(item, where)
        else:
            raise RequestError(
                f"{where} is of type {kind!r:.40}; this server knows message, reasoning, function_call and "
                "function_call_output",
                param="input",
            )

    def _add_message(self, item: Mapping[str, Any], where: str) -> None:
        role = item.get("role")
        if role == "assistant":
            self._assistant()["content"] += "".join(_texts(item.get("content"), f"{where}.content"))
        elif role in ("user", "system", "developer"):
            self.messages.append({"role": role, "content": _parts(item.get("content"), f"{where}.content")})
        else:
            raise RequestError(
                f"{where}.role must be 'user', 'assistant', 'system' or 'developer', not {role!r:.40}", param="input"
            )

    def _add_output(self, item: Mapping[str, Any], where: str) -> None:
        call_id = _string(item, "call_id", where)
        if call_id not in self._calls:
            raise RequestError(f"{where}.call_id {call_id!r:.80} belongs to no function_call before it", param="input")
        parts = _parts(item.get("output"), f"{where}.output")
        is_text = all(part["type"] == "text" for part in parts)
        content = "".join(part["text"] for part in parts) if is_text else parts
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})

    def _assistant(self) -> dict[str, Any]:
        """The assistant's message to write to."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": ""})
        return self.messages[-1]


def _reasoning(item: Mapping[str, Any], where: str) -> str:
    """The text of a reasoning item; of one without text its summary."""
    for field in ("content", "summary"):
        parts = item.get(field)
        if isinstance(parts, list) and parts:
            texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
            if not all(isinstance(text, str) for text in texts):
                raise RequestError(f"{where}.{field} must be a list of parts with a text", param="input")
            return "".join(map(str, texts))
    return ""


def _arguments(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    try:
        arguments = json.loads(_string(item, "arguments", where) or "{}")
    except ValueError as exc:
        raise RequestError(f"{where}.arguments is not valid JSON: {exc}", param="input") from exc
    if not isinstance(arguments, dict):
        raise RequestError(f"{where}.arguments must be a JSON object, not {arguments!r:.40}", param="input")
    return arguments


def _texts(content: Any, where: str) -> list[str]:
    parts = _parts(content, where)
    for part in parts:
        if part["type"] != "text":
            raise RequestError(f"{part['place']} must be text: it is the assistant's", param="input")
    return [part["text"] for part in parts]


def _parts(content: Any, where: str) -> list[dict[str, Any]]:
    """Parts as chat messages have them."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise RequestError(f"{where} must be a string or a list of parts, not {content!r:.40}", param="input")
    parts = []
    for index, part in enumerate(content):
        place = f"{where}[{index}]"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or not isinstance(kind, str):
            raise RequestError(f"{place} must be an object with a type, not {part!r:.40}", param="input")
        if kind == "input_image":
            parts.append(_image(part, place))
            continue
        if kind in _MEDIA:
            raise RequestError(
                f"{place} is of type '{kind}'; this server takes text and, if its model does, pictures",
                param="input",
                code="unsupported_content",
            )
        if kind not in _TEXT_PARTS:
            known = ", ".join([*_TEXT_PARTS, "input_image"])
            raise RequestError(f"{place}.type must be one of {known}, not '{kind:.40}'", param="input")
        parts.append({"type": "text", "text": _string(part, _TEXT_PARTS[kind], place)})
    return parts


def _image(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A picture by its URL; pictures that were uploaded before are not known here."""
    if part.get("file_id") is not None:
        raise RequestError(
            f"{place}.file_id is not supported: this server keeps no files; send image_url", param="input"
        )
    url = _string(part, "image_url", place)
    return {"type": "input_image", "image_url": url, "detail": part.get("detail"), "place": place}


def _string(item: Mapping[str, Any], field: str, where: str) -> str:
    value = item.get(field)
    if not isinstance(value, str):
        raise RequestError(f"{where}.{field} must be a string, not {value!r:.40}", param="input")
    return value


def _function(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise RequestError(
            f"{where}.type must be 'function', not {tool.get('type')!r:.40}: this server runs no tools of its own",
            param="tools",
        )
    fields = ("name", "description", "parameters", "strict")
    function = {field: tool[field] for field in fields if tool.get(field) is not None}
    if not isinstance(function.get("name"), str):
        raise RequestError(f"{where}.name must be a string, not {tool.get('name')!r:.40}", param="tools")
    return {"type": "function", "function": function}
