"""From Anthropic's messages and tools to the ones that chat templates are written for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hookline.errors import RequestError
from hookline_api.chat.tools import ToolWish, read_tools

_MEDIA = ("document", "search_result", "container_upload")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def read_wish(tools: Sequence[Mapping[str, Any]] | None, choice: Mapping[str, Any] | None) -> ToolWish:
    """``tools`` and ``tool_choice``. Raises ``RequestError`` for malformed ones."""
    functions = [_function(tool, f"tools[{index}]") for index, tool in enumerate(tools or ())]
    if choice is None:
        return read_tools(functions, None, None)
    kind = choice.get("type")
    wanted: str | dict[str, Any]
    if kind == "tool" and isinstance(choice.get("name"), str):
        wanted = {"type": "function", "function": {"name": choice["name"]}}
    elif isinstance(kind, str) and kind in _CHOICES:
        wanted = _CHOICES[kind]
    else:
        raise RequestError(
            f"tool_choice.type must be 'auto', 'any', 'none', or 'tool' with a name, not {kind!r:.40}",
            param="tool_choice",
        )
    alone = choice.get("disable_parallel_tool_use", False)
    if not isinstance(alone, bool):
        raise RequestError("tool_choice.disable_parallel_tool_use must be true or false", param="tool_choice")
    return read_tools(functions, wanted, not alone)


def chat_messages(
    system: str | Sequence[Mapping[str, Any]] | None, messages: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """OpenAI's message objects. Raises ``RequestError`` naming the block at fault.

    Neighbours of one role become one message. A tool's results stand before the text of their message.
    """
    chat = _Chat()
    if system:
        chat.messages.append({"role": "system", "content": _texts(system, "system")})
    if not messages:
        raise RequestError("messages must be a list with at least one message", param="messages")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role = message.get("role")
        if role == "user":
            chat.add_user(message.get("content"), where)
        elif role == "assistant":
            chat.add_assistant(message.get("content"), where)
        else:
            raise RequestError(
                f"{where}.role must be 'user' or 'assistant', not {role!r:.40} (instructions belong to 'system')",
                param="messages",
            )
    return chat.messages


class _Chat:
    """A chat that grows message by message."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._calls: set[str] = set()

    def add_user(self, content: Any, where: str) -> None:
        texts: list[dict[str, Any]] = []
        for block, place in _blocks(content, where):
            kind = block["type"]
            if kind == "tool_result":
                self._add_result(block, place)
            elif kind == "text":
                texts.append(_text(block, place))
            elif kind == "image":
                texts.append(_image(block, place))
            else:
                raise _refused(kind, place, "text, image and tool_result")
        if texts or not _blocks(content, where):
            self._last("user")["content"] += texts

    def add_assistant(self, content: Any, where: str) -> None:
        message = self._last("assistant")
        for block, place in _blocks(content, where):
            kind = block["type"]
            if kind == "text":
                message["content"].append(_text(block, place))
            elif kind == "thinking":
                message["reasoning_content"] = message.get("reasoning_content", "") + _string(block, "thinking", place)
            elif kind == "tool_use":
                message.setdefault("tool_calls", []).append(self._call(block, place))
            elif kind != "redacted_thinking":  # its text is known to its maker alone
                raise _refused(kind, place, "text, thinking and tool_use")

    def _call(self, block: Mapping[str, Any], place: str) -> dict[str, Any]:
        call_id = _string(block, "id", place)
        arguments = block.get("input")
        if not isinstance(arguments, Mapping):
            raise RequestError(f"{place}.input must be an object, not {arguments!r:.40}", param="messages")
        self._calls.add(call_id)
        function = {"name": _string(block, "name", place), "arguments": dict(arguments)}
        return {"id": call_id, "type": "function", "function": function}

    def _add_result(self, block: Mapping[str, Any], place: str) -> None:
        call_id = _string(block, "tool_use_id", place)
        if call_id not in self._calls:
            raise RequestError(
                f"{place}.tool_use_id {call_id!r:.80} belongs to no tool_use block before it", param="messages"
            )
        content = block.get("content")
        parts = [] if content is None else _texts(content, f"{place}.content", with_images=True)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": parts})

    def _last(self, role: str) -> dict[str, Any]:
        """The message to write to: the last one, if it is of this role."""
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": []})
        return self.messages[-1]


def _blocks(content: Any, where: str) -> list[tuple[Mapping[str, Any], str]]:
    """(block, its place) of a message's content; a string is one block of text."""
    if isinstance(content, str):
        return [({"type": "text", "text": content}, f"{where}.content")]
    if not isinstance(content, list):
        raise RequestError(
            f"{where}.content must be a string or a list of blocks, not {content!r:.40}", param="messages"
        )
    blocks = [(block, f"{where}.content[{index}]") for index, block in enumerate(content)]
    for block, place in blocks:
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            raise RequestError(f"{place} must be an object with a type, not {block!r:.40}", param="messages")
    return blocks


def _texts(content: Any, where: str, *, with_images: bool = False) -> list[dict[str, Any]]:
    """Blocks of text, and of pictures if they are allowed there."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    param = where.partition(".")[0].partition("[")[0]
    if not isinstance(content, list):
        raise RequestError(f"{where} must be a string or a list of blocks of text, not {content!r:.40}", param=param)
    texts = []
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        kind = block.get("type") if isinstance(block, Mapping) else None
        if isinstance(block, Mapping) and kind == "image" and with_images:
            texts.append(_image(block, place))
            continue
        if not isinstance(block, Mapping) or kind != "text":
            raise _refused(kind, place, "text and image" if with_images else "text", param=param)
        texts.append(_text(block, place))
    return texts


def _image(block: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A picture, by its URL or in base64."""
    source = block.get("source")
    kind = source.get("type") if isinstance(source, Mapping) else None
    if not isinstance(source, Mapping) or kind not in ("base64", "url"):
        raise RequestError(f"{place}.source must be of type 'base64' or 'url', not {kind!r:.40}", param="messages")
    if kind == "url":
        url = _string(source, "url", f"{place}.source")
    else:
        url = f"data:{source.get('media_type') or ''};base64,{_string(source, 'data', f'{place}.source')}"
    return {"type": "image", "image": url, "place": place}


def _text(block: Mapping[str, Any], place: str) -> dict[str, Any]:
    return {"type": "text", "text": _string(block, "text", place)}


def _string(block: Mapping[str, Any], field: str, place: str) -> str:
    value = block.get(field)
    if not isinstance(value, str):
        raise RequestError(
            f"{place}.{field} must be a string, not {value!r:.40}", param=place.partition("[")[0].partition(".")[0]
        )
    return value


def _function(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = tool.get("type", "custom")
    if kind not in ("custom", None):
        raise RequestError(
            f"{where} is of type {kind!r:.40}, a tool that only Anthropic's servers run; give tools with a name and an "
            "input_schema",
            param="tools",
        )
    schema = tool.get("input_schema")
    if not isinstance(tool.get("name"), str) or not isinstance(schema, Mapping):
        raise RequestError(f"{where} must have a name and an input_schema, a JSON schema of an object", param="tools")
    function = {"name": tool["name"], "description": tool.get("description"), "parameters": dict(schema)}
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def _refused(kind: Any, place: str, allowed: str, *, param: str = "messages") -> RequestError:
    if kind in _MEDIA:
        return RequestError(
            f"{place} is of type '{kind}'; this server takes text and, if its model does, pictures",
            param=param,
            code="unsupported_content",
        )
    return RequestError(f"{place}.type must be one of {allowed} here, not {kind!r:.40}", param=param)
