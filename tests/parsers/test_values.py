"""Bare texts as values, by the tool's schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hookline.formats.values import ToolTypes, json_of

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "loop": {"$ref": "#/$defs/Loop"},
        "ref": {"$ref": "#/$defs/Count"},
        "either": {"oneOf": [{"type": "integer"}, {"type": "boolean"}]},
        "both": {"allOf": [{"type": ["integer", "string"]}, {"type": "integer"}]},
        "old": {"type": "integer", "nullable": True},
        "choice": {"enum": ["1", "2"]},
        "fixed": {"const": 3},
        "free": {},
    },
    "additionalProperties": {"type": "number"},
    "$defs": {"Loop": {"$ref": "#/$defs/Loop"}, "Count": {"type": "integer"}},
}
_TYPES = ToolTypes([{"type": "function", "function": {"name": "f", "parameters": _SCHEMA}}])


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("loop", "x", "x"),
        ("ref", " 12 ", 12),
        ("ref", "12.0", 12),
        ("ref", "1.5", "1.5"),
        ("ref", "012", "012"),
        ("ref", "true", "true"),
        ("ref", "NaN", "NaN"),
        ("either", "True", True),
        ("either", "7", 7),
        ("both", "7", 7),
        ("old", "None", None),
        ("old", "null", None),
        ("old", "0", 0),
        ("choice", "1", "1"),
        ("fixed", "3", 3),
        ("free", "12", 12),
        ("free", "True", "True"),
        ("free", '"x"', '"x"'),
        ("free", "[1, 2", "[1, 2"),
        ("free", "[1, 2]", [1, 2]),
        ("another", "1e3", 1000.0),
        ("another", "", ""),
    ],
)
def test_values_are_typed_by_the_schema(key: str, text: str, value: object) -> None:
    found = json.loads(json_of(text, _TYPES.of("f", key)))
    assert found == value
    assert type(found) is type(value)


def test_an_unknown_function_has_no_types() -> None:
    assert _TYPES.of("g", "a") is None
    assert not _TYPES.knows("g")


@pytest.mark.parametrize("tool", [{}, {"function": 3}, {"function": {"name": "f", "parameters": None}}])
def test_odd_tools_say_nothing(tool: dict[str, Any]) -> None:
    assert ToolTypes([tool]).of("f", "a") is None
