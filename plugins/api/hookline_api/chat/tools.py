"""Tools: what ``tools`` and ``tool_choice`` ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hookline.errors import RequestError

#: A function without ``parameters`` takes none.
_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({"properties": {}, "additionalProperties": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolWish:
    """What a chat request wants of tools."""

    #: Tools that the chat template shows, and that calls are looked for.
    tools: Sequence[Mapping[str, Any]] = ()
    #: ``tool_choice`` "required" or a function by name: the whole output is a JSON array of
    #: ``{"name", "parameters"}`` after this schema, not the model's own format.
    schema: str | None = None
    #: Calls beyond the first are dropped if not.
    is_parallel: bool = True


def read_tools(
    tools: Sequence[Mapping[str, Any]] | None, choice: str | Mapping[str, Any] | None, parallel: bool | None
) -> ToolWish:
    """Raises ``RequestError`` for malformed tools and choices that name none of them."""
    tools = tools or ()
    names = _names(tools)
    is_parallel = parallel is not False
    if choice == "none" or (choice in ("auto", None) and not tools):
        return ToolWish()
    if choice in ("auto", None):
        return ToolWish(tools=tools, is_parallel=is_parallel)
    if not tools:
        raise RequestError("tool_choice needs tools", param="tool_choice")
    if choice == "required":
        return ToolWish(tools=tools, schema=_array_schema(tools, is_single=not is_parallel), is_parallel=is_parallel)
    named = _named(choice)
    if named not in names:
        raise RequestError(
            f"tool_choice names {named!r:.80}, which is not among the tools ({', '.join(names)})", param="tool_choice"
        )
    chosen = [tools[names.index(named)]]
    return ToolWish(tools=chosen, schema=_array_schema(chosen, is_single=True), is_parallel=False)


def _names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    names = []
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if tool.get("type") != "function":
            raise RequestError(f"{where}.type must be 'function', not {tool.get('type')!r:.40}", param="tools")
        function = tool.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
            raise RequestError(f"{where}.function must be an object with a name", param="tools")
        if not isinstance(function.get("parameters", {}), (Mapping, type(None))):
            raise RequestError(f"{where}.function.parameters must be a JSON schema, an object", param="tools")
        if name in names:
            raise RequestError(f"{where} has the name {name!r:.80} of another tool", param="tools")
        names.append(name)
    return names


def _named(choice: str | Mapping[str, Any] | None) -> str:
    function = choice.get("function") if isinstance(choice, Mapping) and choice.get("type") == "function" else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise RequestError(
            "tool_choice must be 'none', 'auto', 'required' or "
            f'{{"type": "function", "function": {{"name": ...}}}}, not {choice!r:.80}',
            param="tool_choice",
        )
    return name


def _array_schema(tools: Sequence[Mapping[str, Any]], *, is_single: bool) -> str:
    """A schema of calls to the tools. Each tool's own schema becomes a definition, its references with it,
    so that definitions of two tools never meet."""
    definitions = {}
    calls = []
    for index, tool in enumerate(tools):
        function = tool["function"]
        place = f"tool{index}"
        parameters = function.get("parameters") or _NO_PARAMETERS
        definitions[place] = _moved({"type": "object", **parameters}, f"#/$defs/{place}")
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "parameters": {"$ref": f"#/$defs/{place}"}},
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
        )
    schema: dict[str, Any] = {
        "type": "array",
        "minItems": 1,
        "items": calls[0] if len(calls) == 1 else {"anyOf": calls},
        "$defs": definitions,
    }
    if is_single:
        schema["maxItems"] = 1
    return json.dumps(schema)


def _moved(schema: Any, root: str) -> Any:
    """The schema with references to its own parts as they are once it stands at ``root``."""
    if isinstance(schema, Mapping):
        moved = {key: _moved(value, root) for key, value in schema.items()}
        target = schema.get("$ref")
        if isinstance(target, str) and target.startswith("#"):
            moved["$ref"] = root + target[1:]
        return moved
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    return schema
