"""About 300 schemas over the keywords of JSON schema 2020-12, each under the keyword that it is about."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

INTEGER: dict[str, Any] = {"type": "integer"}
STRING: dict[str, Any] = {"type": "string"}
#: One schema of each type that is cheap to enforce.
SIMPLE: dict[str, dict[str, Any]] = {
    "integer": INTEGER,
    "number": {"type": "number"},
    "string": STRING,
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "array": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    "object": {"type": "object", "properties": {"a": INTEGER}, "required": ["a"], "additionalProperties": False},
}
FORMATS = (
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
    "json-pointer", "regex", "made-up",
)  # fmt: skip
PATTERNS = (
    "^a+$", "b", "^[^x]{2}$", r"^\d{3}-\d{4}$", "^(a|b)c$", r"^\w+$", "^$", "^é{1,2}$", "^.{0,3}$", r"\s",
    '^"$', r"^\\$", "^(?=a)a$", r"^[a-z0-9._%+-]+@[a-z]{2,5}$",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaCase:
    """A schema that is about one keyword."""

    keyword: str
    schema: dict[str, Any] | bool
    #: Whether no text of it is longer than a few hundred characters, white space aside.
    is_bounded: bool = False


def corpus() -> list[SchemaCase]:
    """All of them, in a fixed order."""
    parts = (
        _types(), _values(), _numbers(), _strings(), _arrays(), _objects(), _combined(), _references(), _annotations(),
        _refused_everywhere(), _everyday(),
    )  # fmt: skip
    return list(itertools.chain.from_iterable(parts))


def _case(keyword: str, schema: dict[str, Any] | bool, *, bounded: bool = False) -> SchemaCase:
    return SchemaCase(keyword=keyword, schema=schema, is_bounded=bounded)


def _types() -> Iterator[SchemaCase]:
    for name, schema in SIMPLE.items():
        yield _case("type", {"type": name}, bounded=name in ("boolean", "null"))
        yield _case("type", schema)
    for pair in itertools.combinations(SIMPLE, 2):
        yield _case("type", {"type": list(pair)})
    yield _case("type", {})
    yield _case("type", True)
    yield _case("type", False)


def _values() -> Iterator[SchemaCase]:
    values: list[Any] = [
        "a",
        "",
        'say "x"\n',
        "é漢😀",
        0,
        -7,
        2.5,
        1e3,
        True,
        None,
        [],
        [1, "a"],
        {},
        {"x": {"y": [1]}},
    ]
    for value in values:
        yield _case("const", {"const": value}, bounded=True)
    yield _case("enum", {"enum": values}, bounded=True)
    yield _case("enum", {"enum": ["on", "off"]}, bounded=True)
    yield _case("enum", {"type": "string", "enum": ["on", "off"]}, bounded=True)
    yield _case("enum", {"type": "string", "enum": ["on", 5]}, bounded=True)
    yield _case("enum", {"type": "integer", "enum": [1, 2, 30]}, bounded=True)
    yield _case("enum", {"enum": [str(number) for number in range(200)]}, bounded=True)
    yield _case("const", {"type": "integer", "const": 5}, bounded=True)
    yield _case("const", {"type": "string", "const": 5}, bounded=True)
    yield _case("enum", {"enum": ["a", "bb"], "maxLength": 1}, bounded=True)
    yield _case("enum", {"enum": [1, 5, 9], "minimum": 4}, bounded=True)


def _numbers() -> Iterator[SchemaCase]:
    limits: list[dict[str, Any]] = [
        {"minimum": 0}, {"minimum": -5}, {"maximum": 100}, {"maximum": -3}, {"minimum": 0, "maximum": 9},
        {"minimum": -12, "maximum": 345}, {"minimum": 7, "maximum": 7}, {"exclusiveMinimum": 0},
        {"exclusiveMaximum": 10}, {"exclusiveMinimum": -1, "exclusiveMaximum": 1},
        {"minimum": 3, "exclusiveMinimum": 3}, {"minimum": 1000, "maximum": 99999}, {"minimum": 9, "maximum": 3},
    ]  # fmt: skip
    for kind in ("integer", "number"):
        for limit in limits:
            yield _case(next(iter(limit)), {"type": kind, **limit}, bounded=kind == "integer" and len(limit) > 1)
    yield _case("minimum", {"type": "number", "minimum": 0.5, "maximum": 2.25})
    yield _case("minimum", {"minimum": 5})
    for kind in ("integer", "number"):
        for factor in (1, 2, 5, 7, 10, 0.5, 0.01):
            yield _case("multipleOf", {"type": kind, "multipleOf": factor})
    yield _case("multipleOf", {"type": "integer", "multipleOf": 5, "minimum": 7, "maximum": 40}, bounded=True)


def _strings() -> Iterator[SchemaCase]:
    for shortest, longest in ((0, 0), (0, 3), (1, 1), (2, 6), (5, 5), (0, 40)):
        yield _case("maxLength", {"type": "string", "minLength": shortest, "maxLength": longest}, bounded=True)
    yield _case("minLength", {"type": "string", "minLength": 3})
    yield _case("minLength", {"minLength": 3})
    yield _case("minLength", {"type": "string", "minLength": 5, "maxLength": 2})
    for pattern in PATTERNS:
        yield _case("pattern", {"type": "string", "pattern": pattern})
    yield _case("pattern", {"type": "string", "pattern": "^a+$", "minLength": 3})
    yield _case("pattern", {"type": "string", "pattern": "^[ab]+$", "maxLength": 4}, bounded=True)
    for name in FORMATS:
        yield _case("format", {"type": "string", "format": name})
    yield _case("format", {"type": "string", "format": "date", "pattern": "^2"})
    yield _case("format", {"type": "string", "format": "email", "maxLength": 20})


def _arrays() -> Iterator[SchemaCase]:
    for schema in SIMPLE.values():
        yield _case("items", {"type": "array", "items": schema})
    for fewest, most in ((0, 0), (0, 1), (1, 3), (2, 2), (3, 10)):
        schema = {"type": "array", "items": {"type": "boolean"}, "minItems": fewest, "maxItems": most}
        yield _case("maxItems", schema, bounded=True)
    yield _case("minItems", {"type": "array", "items": INTEGER, "minItems": 2})
    yield _case("minItems", {"minItems": 2})
    yield _case("minItems", {"type": "array", "items": INTEGER, "minItems": 4, "maxItems": 2})
    yield _case("maxItems", {"type": "array", "maxItems": 2})
    for rest in (
        {},
        {"items": False},
        {"items": STRING},
        {"items": False, "minItems": 2},
        {"minItems": 1},
        {"maxItems": 3},
    ):
        yield _case("prefixItems", {"type": "array", "prefixItems": [INTEGER, {"type": "boolean"}], **rest})
    yield _case("prefixItems", {"prefixItems": [INTEGER]})
    yield _case("items", {"type": "array", "items": {"type": "array", "items": INTEGER, "maxItems": 2}, "maxItems": 2})
    yield _case("items", {"type": "array", "items": False})
    yield _case("items", {"items": INTEGER})


def _objects() -> Iterator[SchemaCase]:
    names = ["a", "b", "c"]
    for count, schema in itertools.product(range(4), (INTEGER, STRING)):
        properties = dict.fromkeys(names, schema)
        required = names[:count]
        yield _case("required", {"type": "object", "properties": properties, "required": required})
    for closed in (True, False, INTEGER):
        keyword = "additionalProperties"
        yield _case(keyword, {"type": "object", "additionalProperties": closed})
        yield _case(keyword, {"type": "object", "properties": {"a": STRING}, "additionalProperties": closed})
        one: dict[str, Any] = {
            "type": "object",
            "properties": {"a": STRING},
            "required": ["a"],
            "additionalProperties": closed,
        }
        yield _case(keyword, one)
    for name in ('c"d', "é", "a b", "x\n", "", "漢", "$ref", "a/b~c"):
        yield _case("properties", {"type": "object", "properties": {name: INTEGER}, "required": [name]})
    yield _case("properties", {"properties": {"a": INTEGER}})
    yield _case("properties", {"type": "object", "properties": {"a": False, "b": INTEGER}, "required": ["b"]})
    yield _case("properties", {"type": "object", "properties": {"a": {}}, "required": ["a"]})
    yield _case("required", {"type": "object", "properties": {"a": INTEGER}, "required": ["a", "b"]})
    yield _case("required", {"type": "object", "required": ["a"]})
    for fewest, most in ((0, 1), (1, 2), (2, 2), (0, 0)):
        for more in ({"properties": dict.fromkeys(names, INTEGER)}, {"additionalProperties": INTEGER}):
            keyword = "minProperties" if fewest else "maxProperties"
            yield _case(keyword, {"type": "object", **more, "minProperties": fewest, "maxProperties": most})
    beside: list[dict[str, Any]] = [{}, {"additionalProperties": False}]
    for more in (*beside, {"properties": {"xa": INTEGER}}, {"properties": {"a": INTEGER}}):
        yield _case("patternProperties", {"type": "object", "patternProperties": {"^x[a-c]$": STRING}, **more})
    yield _case("patternProperties", {"type": "object", "patternProperties": {"^x": INTEGER, "y$": STRING}})
    for rule in ({"pattern": "^[a-c]+$"}, {"maxLength": 3}, {"enum": ["a", "b"]}):
        yield _case("propertyNames", {"type": "object", "propertyNames": rule})
        yield _case("propertyNames", {"type": "object", "propertyNames": rule, "properties": {"zzzz": INTEGER}})


def _combined() -> Iterator[SchemaCase]:
    for first, second in itertools.combinations(SIMPLE.values(), 2):
        yield _case("anyOf", {"anyOf": [first, second]})
        yield _case("oneOf", {"oneOf": [first, second]})
    yield _case("anyOf", {"anyOf": [INTEGER, {"type": "integer", "minimum": 5}]})
    yield _case("anyOf", {"type": "string", "anyOf": [{"maxLength": 2}, {"pattern": "^a{5}$"}]})
    for first, second in (({"minimum": 0}, {"maximum": 9}), ({"minimum": 5}, {"maximum": 3}), ({}, {"multipleOf": 2})):
        yield _case("allOf", {"allOf": [{"type": "integer", **first}, {"type": "integer", **second}]})
    yield _case("allOf", {"allOf": [STRING]})
    yield _case("allOf", {"allOf": [INTEGER, STRING]})
    yield _case(
        "allOf", {"allOf": [{"type": "object", "properties": {name: INTEGER}, "required": [name]} for name in "ab"]}
    )
    yield _case("oneOf", {"oneOf": [{"const": 1}, {"const": 2}]}, bounded=True)
    yield _case("oneOf", {"oneOf": [{"const": 1}, {"const": 1.0}]}, bounded=True)
    yield _case("oneOf", {"oneOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]}, bounded=True)
    yield _case("oneOf", {"oneOf": [{"type": "integer", "minimum": 5}, {"type": "integer", "maximum": 7}]})
    tagged = [
        {"type": "object", "properties": {"kind": {"const": kind}, "x": schema}, "required": ["kind", "x"]}
        for kind, schema in (("number", INTEGER), ("text", STRING))
    ]
    yield _case("oneOf", {"oneOf": tagged})
    optional = [{**schema, "required": ["x"]} for schema in tagged]
    yield _case("oneOf", {"oneOf": optional})


def _references() -> Iterator[SchemaCase]:
    for name, schema in SIMPLE.items():
        yield _case("$ref", {"$defs": {name: schema}, "type": "array", "items": {"$ref": f"#/$defs/{name}"}})
    tree = {
        "type": "object",
        "properties": {"n": INTEGER, "kids": {"type": "array", "items": {"$ref": "#/$defs/t"}, "maxItems": 2}},
        "required": ["n"],
    }
    yield _case("$ref", {"$defs": {"t": tree}, "$ref": "#/$defs/t"})
    chain = {"type": "object", "properties": {"v": INTEGER, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    yield _case("$ref", {**chain, "required": ["v", "next"]})
    yield _case("$ref", {"$defs": {"n": INTEGER}, "$ref": "#/$defs/n", "minimum": 5})
    yield _case("$ref", {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": STRING}, "$ref": "#/$defs/a"})
    yield _case("$ref", {"type": "object", "properties": {"a/b": INTEGER, "c": {"$ref": "#/properties/a~1b"}}})
    yield _case("$ref", {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})
    yield _case("$ref", {"$ref": "#/$defs/none"})
    yield _case("$ref", {"$ref": "https://example.com/x.json"})
    yield _case("$ref", {"$defs": {"n": {"$anchor": "here", **INTEGER}}, "$ref": "#here"})


def _annotations() -> Iterator[SchemaCase]:
    schema = {"type": "object", "properties": {"a": INTEGER}, "required": ["a"]}
    for note in ("title", "description", "$comment"):
        yield _case("title", {note: "words", **schema})
    yield _case(
        "title", {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://x.org/y", **schema}
    )
    yield _case("title", {"default": 5, "examples": [1], "deprecated": True, "readOnly": True, **INTEGER})
    yield _case("title", {"contentEncoding": "base64", "contentMediaType": "image/png", **STRING})


def _refused_everywhere() -> Iterator[SchemaCase]:
    yield _case("not", {"type": "string", "not": {"const": "a"}})
    yield _case("not", {"not": INTEGER})
    yield _case("if", {"if": INTEGER, "then": {"minimum": 5}, "else": STRING})
    yield _case("uniqueItems", {"type": "array", "items": INTEGER, "uniqueItems": True})
    yield _case("uniqueItems", {"type": "array", "items": INTEGER, "uniqueItems": False})
    yield _case("contains", {"type": "array", "items": INTEGER, "contains": {"const": 5}})
    yield _case("contains", {"type": "array", "contains": INTEGER, "minContains": 2, "maxContains": 3})
    yield _case(
        "dependentRequired",
        {"type": "object", "properties": dict.fromkeys("ab", INTEGER), "dependentRequired": {"a": ["b"]}},
    )
    yield _case(
        "dependentSchemas",
        {"type": "object", "properties": {"a": INTEGER}, "dependentSchemas": {"a": {"required": ["b"]}}},
    )
    yield _case(
        "unevaluatedProperties", {"type": "object", "properties": {"a": INTEGER}, "unevaluatedProperties": False}
    )
    yield _case("unevaluatedItems", {"type": "array", "prefixItems": [INTEGER], "unevaluatedItems": False})
    yield _case("$dynamicRef", {"$dynamicAnchor": "x", "type": "array", "items": {"$dynamicRef": "#x"}})


def _everyday() -> Iterator[SchemaCase]:
    person = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "mail": {"type": "string", "pattern": r"^[a-z]{1,8}@[a-z]{1,8}\.org$"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3},
            "role": {"enum": ["admin", "user", None]},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    yield _case("everyday", person, bounded=True)
    yield _case("everyday", {"type": "array", "items": person, "minItems": 1, "maxItems": 2}, bounded=True)
    yield _case("everyday", {"$defs": {"p": person}, "anyOf": [{"$ref": "#/$defs/p"}, {"type": "null"}]}, bounded=True)
    call = {
        "type": "object",
        "properties": {"name": {"const": "weather"}, "arguments": {"type": "object", "properties": {"city": STRING}}},
        "required": ["name", "arguments"],
    }
    yield _case("everyday", {"type": "array", "items": call, "minItems": 1})
    yield _case(
        "everyday",
        {
            "type": "object",
            "properties": {
                "matrix": {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
                    "maxItems": 2,
                }
            },
            "required": ["matrix"],
        },
    )
