"""ToolTypes: what a tool's schema says of an argument, and a bare text as the value that it stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hookline.formats.schemas import follow
from hookline.text.json_stream import JsonValueScanner

#: Names of JSON types, as schemas have them.
Types = frozenset[str]

TEXT: Types = frozenset({"string"})
_NOT_TEXT: Types = frozenset({"null", "boolean", "integer", "number", "array", "object"})
_WORDS = {"true": "boolean", "false": "boolean", "null": "null"}
#: Templates that print values with Python's ``str`` write these.
_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}
#: Combinations that are followed inside of each other.
_MAX_DEPTH = 32


class ToolTypes:
    """The types that the schemas of a request's tools allow for each argument."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self._schemas: dict[str, Any] = {}
        for tool in tools:
            function = tool.get("function", tool)
            if isinstance(function, Mapping) and isinstance(function.get("name"), str):
                self._schemas.setdefault(function["name"], function.get("parameters"))

    def knows(self, name: str) -> bool:
        """Whether the request lists a function of this name."""
        return name in self._schemas

    def of(self, name: str, key: str) -> Types | None:
        """Types of one argument; ``None`` if the schema does not say."""
        root = self._schemas.get(name)
        schema = follow(root, root)
        properties = schema.get("properties")
        if isinstance(properties, Mapping) and key in properties:
            return types_of(properties[key], root)
        return types_of(schema.get("additionalProperties"), root)


def json_of(text: str, types: Types | None) -> str:
    """A bare text as JSON.

    - A value that can only be a string is the text, word for word.
    - Otherwise the text is the JSON value of an allowed type that it spells, if it does (``True`` and ``None``
      as Python writes them count where a boolean or null may stand, ``12.0`` where an integer may).
    - What spells none of the allowed types is a string, so that nothing that the model wrote is lost.
    - Where the schema does not say, a JSON value is taken for one and all other text is a string.
    """
    if types == TEXT:
        return quote(text)
    value = _spelt(text.strip(), _NOT_TEXT if types is None else types - TEXT, is_typed=types is not None)
    return quote(text) if value is None else value


def json_or_text(text: str) -> str:
    """A text that the format says is JSON, of any type; a string if it is not."""
    raw = _raw_json(text.strip())
    return quote(text) if raw is None else raw


def quote(text: str) -> str:
    """A JSON string."""
    return json.dumps(text, ensure_ascii=False)


def quoted_part(text: str) -> str:
    """Part of the inside of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _spelt(text: str, types: Types, *, is_typed: bool) -> str | None:
    if is_typed and text in _PYTHON_WORDS:
        text = _PYTHON_WORDS[text]
    if text[:1] in ("", '"'):
        return None
    raw = _raw_json(text)
    if raw is None:
        return None
    kind = _WORDS.get(raw) or {"{": "object", "[": "array"}.get(raw[0], "number")
    if kind != "number":
        return raw if kind in types else None
    is_whole = raw.lstrip("-").isdigit()
    if "number" in types or ("integer" in types and is_whole):
        return raw
    if "integer" in types and len(raw) < 40 and float(raw).is_integer():
        return str(int(float(raw)))
    return None


def _raw_json(text: str) -> str | None:
    scanner = JsonValueScanner()
    # Behind the space a number has ended.
    read, pieces = scanner.feed(text + " ")
    return "".join(piece.raw for piece in pieces) if scanner.status == "done" and read == len(text) else None


def types_of(schema: Any, root: Any) -> Types | None:
    """The types that a schema, a part of ``root``, allows; ``None`` if it does not say."""
    return _types(schema, root, _MAX_DEPTH)


def _types(schema: Any, root: Any, depth: int) -> Types | None:
    schema = follow(schema, root)
    if depth == 0:
        return None
    found = _own_types(schema)
    for choice in ("anyOf", "oneOf"):
        branches = schema.get(choice)
        if isinstance(branches, Sequence) and not isinstance(branches, str) and branches:
            kinds = [_types(branch, root, depth - 1) for branch in branches]
            if None not in kinds:
                found = _both(found, frozenset().union(*(kind for kind in kinds if kind is not None)))
    parts = schema.get("allOf")
    if isinstance(parts, Sequence) and not isinstance(parts, str):
        for part in parts:
            found = _both(found, _types(part, root, depth - 1))
    if found is not None and schema.get("nullable") is True:
        found |= {"null"}
    return found


def _own_types(schema: Mapping[str, Any]) -> Types | None:
    declared = schema.get("type")
    if isinstance(declared, str):
        return frozenset({declared})
    if isinstance(declared, Sequence):
        return frozenset(item for item in declared if isinstance(item, str))
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, Sequence) and not isinstance(values, str) and values:
        return frozenset(map(_type_of, values))
    if "properties" in schema:
        return frozenset({"object"})
    return frozenset({"array"}) if "items" in schema else None


def _both(first: Types | None, second: Types | None) -> Types | None:
    if first is None or second is None:
        return second if first is None else first
    # An empty intersection is a schema that nothing satisfies; the nearer one is as good as the other.
    return (first & second) or first


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"
