"""Random JSON schemas that use most keywords, alone and together, often in ways that few libraries enforce."""

from __future__ import annotations

from random import Random
from typing import Any

_TYPES = ["string", "integer", "null", "boolean", "number", "array", "object"]
_VALUES: list[Any] = ["a", "b\n", 1, 2.5, None, True, {"x": 1}, [1]]
_PATTERNS = ["^a+$", "b", "^[^x]{2}$", r"^\d+-\w*$", '"', "^.{0,3}$", "^(a|b)c$", r"\s"]
_FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "hostname", "no-such-format", "duration", "ipv6"]


def random_schema(random: Random, depth: int = 3) -> dict[str, Any]:
    """A schema with one definition that others may refer to."""
    schema = _schema(random, depth)
    schema["$defs"] = {"n": _schema(random, 1)}
    return schema


def _schema(random: Random, depth: int) -> dict[str, Any]:
    if depth == 0 or random.random() < 0.3:
        return _leaf(random)
    kind = random.choice(["object", "object", "array", "array", "anyOf", "allOf", "$ref"])
    if kind == "object":
        return _object(random, depth - 1)
    if kind == "array":
        return _array(random, depth - 1)
    if kind == "$ref":
        return {"$ref": "#/$defs/n", **({"minimum": 3} if random.random() < 0.2 else {"title": "t"})}
    branches = [_schema(random, depth - 1) for _ in range(random.randint(1, 2))]
    return {kind: branches, **({"type": "string"} if random.random() < 0.1 else {})}


def _leaf(random: Random) -> dict[str, Any]:
    schema: dict[str, Any] = random.choice(
        [
            {"type": random.choice(_TYPES[:5])},
            {"type": random.choice(_TYPES[:5])},
            {"type": random.sample(_TYPES, random.randint(1, 3))},
            {"enum": random.sample(_VALUES, random.randint(1, 4))},
            {"const": random.choice(_VALUES)},
            {},
        ]
    )
    rare: dict[str, Any] = {
        "minLength": random.randint(0, 3),
        "maxLength": random.randint(2, 6),
        "minimum": random.randint(-3, 3),
        "maximum": random.randint(3, 120),
        "exclusiveMinimum": random.randint(-5, 5),
        "exclusiveMaximum": random.choice([7, 10.5, 100]),
        "multipleOf": random.choice([2, 3, 0.5]),
        "pattern": random.choice(_PATTERNS),
        "format": random.choice(_FORMATS),
        "default": 1,
        "uniqueItems": True,
        "minItems": 1,
        "required": ["a"],
        "minProperties": 1,
        "not": {"const": "a"},
    }
    return schema | {keyword: value for keyword, value in rare.items() if random.random() < 0.07}


def _object(random: Random, depth: int) -> dict[str, Any]:
    names = random.sample(["a", "b", 'c"d', "é"], random.randint(0, 3))
    schema: dict[str, Any] = {"type": "object", "properties": {name: _schema(random, depth) for name in names}}
    if random.random() < 0.6:
        schema["required"] = random.sample(names, random.randint(0, len(names)))
    if random.random() < 0.3:
        schema["additionalProperties"] = random.choice([True, False, _schema(random, depth)])
    rare: dict[str, Any] = {
        "minProperties": random.randint(0, 2),
        "maxProperties": random.randint(0, 3),
        "patternProperties": {"^x": _schema(random, depth)},
        "propertyNames": random.choice([{"pattern": "^[a-c]+$"}, {"maxLength": 3}]),
        "dependentRequired": {"a": ["b"]},
    }
    return schema | {keyword: value for keyword, value in rare.items() if random.random() < 0.1}


def _array(random: Random, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array"}
    if random.random() < 0.8:
        schema["items"] = _schema(random, depth)
    rare: dict[str, Any] = {
        "prefixItems": [_schema(random, depth)],
        "minItems": random.randint(0, 2),
        "maxItems": random.randint(1, 3),
        "contains": {"const": 1},
    }
    return schema | {keyword: value for keyword, value in rare.items() if random.random() < 0.25}
