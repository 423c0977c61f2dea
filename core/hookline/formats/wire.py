"""How calls of given tools are written in a model's own format, as a structural tag that a grammar can follow.

The formats of structural tags are those of https://xgrammar.mlc.ai (sequence, tag, tags_with_separator, optional,
or, const_string, json_schema, regex, any_text).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hookline.formats.description import WrittenCalls
from hookline.formats.values import TEXT, ToolTypes, Types

Structure = dict[str, Any]

_PYTHON_WORDS = {"boolean": ("True", "False"), "null": ("None",)}


def required_calls(written: WrittenCalls, tools: Sequence[Mapping[str, Any]], *, parallel: bool = True) -> Structure:
    """The structural tag of one call or more (with ``parallel``) and of nothing else.

    ``tools`` are OpenAI's tool objects. Arguments are held to their schema, with the properties in its order, for
    formats that write them one by one the required ones first.
    """
    writer = _CallWriter(written, ToolTypes(tools))
    calls: Structure = {
        "type": "tags_with_separator",
        "tags": [writer.call(tool["function"]) for tool in tools],
        "separator": written.separator,
        "at_least_one": True,
        "stop_after_first": not parallel,
    }
    return {"type": "structural_tag", "format": _sequence(_text(written.open), [calls], _text(written.close))}


class _CallWriter:
    def __init__(self, written: WrittenCalls, types: ToolTypes) -> None:
        self._written = written
        self._types = types

    def call(self, function: Mapping[str, Any]) -> Structure:
        name, schema = function["name"], function.get("parameters") or {"type": "object", "properties": {}}
        # Which number a call has is not for a grammar to count.
        begin, number, rest = self._written.call_open.replace("{name}", name).partition("{index}")
        digits: list[Structure] = [{"type": "regex", "pattern": "[0-9]+"}, *_text(rest)] if number else []
        if self._written.arguments == "json":
            arguments: list[Structure] = [{"type": "json_schema", "json_schema": schema}]
        elif self._written.arguments == "parameters":
            arguments = self._parameters(name, schema)
        else:
            arguments = self._keywords(name, schema)
        content = _sequence(digits, arguments)
        return {"type": "tag", "begin": begin, "content": content, "end": self._written.call_close}

    def _parameters(self, name: str, schema: Mapping[str, Any]) -> list[Structure]:
        required, optional = _properties(schema)
        return [
            *(self._parameter(name, key, value, schema) for key, value in required),
            *(_optional(self._parameter(name, key, value, schema)) for key, value in optional),
        ]

    def _parameter(self, name: str, key: str, value: Any, root: Mapping[str, Any]) -> Structure:
        written, types = self._written, self._types.of(name, key)
        if types == TEXT:
            choices = value.get("enum") if isinstance(value, Mapping) else None
            content: Structure = _choice(map(str, choices)) if choices else {"type": "any_text"}
            begin = written.text_open
        elif types is not None and "string" in types:
            # A bare text may be any of the allowed values.
            content, begin = {"type": "any_text"}, written.text_open
        else:
            content, begin = self._value(types, value, root), written.value_open
        return {"type": "tag", "begin": begin.replace("{key}", key), "content": content, "end": written.value_close}

    def _keywords(self, name: str, schema: Mapping[str, Any]) -> list[Structure]:
        required, optional = _properties(schema)
        must = [self._keyword(name, key, value, schema) for key, value in required]
        may = [self._keyword(name, key, value, schema) for key, value in optional]
        if must:
            commas = [part for each in must[1:] for part in (*_text(", "), each)]
            return [must[0], *commas, *(_optional(_sequence(_text(", "), [each])) for each in may)]
        # Any of the optional ones may be the first.
        firsts = [
            _sequence([may[at]], [_optional(_sequence(_text(", "), [each])) for each in may[at + 1 :]])
            for at in range(len(may))
        ]
        return [_optional({"type": "or", "elements": firsts})] if firsts else []

    def _keyword(self, name: str, key: str, value: Any, root: Mapping[str, Any]) -> Structure:
        return _sequence(_text(f"{key}="), [self._value(self._types.of(name, key), value, root)])

    def _value(self, types: Types | None, schema: Any, root: Mapping[str, Any]) -> Structure:
        """A value that is not bare text."""
        is_python = self._written.python_words or self._written.arguments == "python"
        spelt = [word for kind in sorted(types or ()) for word in _PYTHON_WORDS.get(kind, ()) if is_python]
        choices: list[Structure] = [_choice(spelt)] if spelt else []
        if types is None or not spelt or types - set(_PYTHON_WORDS):
            choices.append({"type": "json_schema", "json_schema": _within(schema, root)})
        return choices[0] if len(choices) == 1 else {"type": "or", "elements": choices}


def _properties(schema: Mapping[str, Any]) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Required and optional properties."""
    properties = schema.get("properties")
    items = list(properties.items()) if isinstance(properties, Mapping) else []
    names = schema.get("required")
    required = set(names) if isinstance(names, Sequence) and not isinstance(names, str) else set()
    return [item for item in items if item[0] in required], [item for item in items if item[0] not in required]


def _within(schema: Any, root: Mapping[str, Any]) -> Any:
    """A part of a schema as a document of its own: definitions of the whole come with it."""
    definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
    return {**definitions, **schema} if definitions and isinstance(schema, Mapping) else schema


def _text(text: str) -> list[Structure]:
    return [{"type": "const_string", "value": text}] if text else []


def _choice(texts: Any) -> Structure:
    found = [part for text in texts for part in _text(text)]
    return found[0] if len(found) == 1 else {"type": "or", "elements": found}


def _optional(content: Structure) -> Structure:
    return {"type": "optional", "content": content}


def _sequence(*parts: Sequence[Structure]) -> Structure:
    elements = [element for part in parts for element in part]
    # Of an empty sequence grammars know nothing.
    return elements[0] if len(elements) == 1 else {"type": "sequence", "elements": elements or [_EMPTY]}


_EMPTY: Structure = {"type": "const_string", "value": ""}
