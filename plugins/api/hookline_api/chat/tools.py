"""Tools: what ``tools`` and ``tool_choice`` ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hookline.errors import RequestError
from hookline.formats.schemas import moved
from hookline.formats.wire import MAX_CALLS
from hookline.interfaces.api import CallRules

#: A function without ``parameters`` takes none.
_NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({"properties": {}, "additionalProperties": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolWish:
    """What a chat request wants of tools."""

    #: Tools that the chat template shows, and that calls are looked for.
    tools: Sequence[Mapping[str, Any]] = ()
    #: ``tool_choice`` "required" or a function by name: the answer is calls and nothing else.
    is_required: bool = False
    #: Calls beyond the first are dropped if not.
    is_parallel: bool = True

    @property
    def rules(self) -> CallRules:
        """The same for the engine."""
        return CallRules(tools=self.tools, required=self.is_required, parallel=self.is_parallel)


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
        return ToolWish(tools=tools, is_required=True, is_parallel=is_parallel)
    named = _named(choice)
    if named not in names:
        raise RequestError(
            f"tool_choice names {named!r:.80}, which is not among the tools ({', '.join(names)})", param="tool_choice"
        )
    chosen = [tools[names.index(named)]]
    return ToolWish(tools=chosen, is_required=True, is_parallel=False)


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


def array_schema(tools: Sequence[Mapping[str, Any]], *, is_parallel: bool) -> str:
    """A schema of ``[{"name", "parameters"}, ...]``, for models whose format of calls is not known.

    Each tool's own schema becomes a definition, its references with it, so that definitions of two tools never
    meet.
    """
    definitions = {}
    calls = []
    for index, tool in enumerate(tools):
        function = tool["function"]
        place = f"tool{index}"
        parameters = function.get("parameters") or _NO_PARAMETERS
        definitions[place] = moved({"type": "object", **parameters}, f"#/$defs/{place}")
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
        "maxItems": MAX_CALLS if is_parallel else 1,
        "items": calls[0] if len(calls) == 1 else {"anyOf": calls},
        "$defs": definitions,
    }
    return json.dumps(schema)
