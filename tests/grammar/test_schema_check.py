"""What a backend would ignore in a JSON schema is refused, by name and place."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarBackend
from hookline.testkit.grammar_walks import environment, random_output, spell
from hookline.testkit.tokenizers import byte_level_bpe
from hookline.text.tokenizer import load_tokenizer
from hookline_grammar import outlines, xgrammar
from hookline_grammar.json_patterns import unsafe_piece
from hookline_grammar.schema_check import MAX_DEPTH, parse_json
from tests.factories.json_schemas import random_schema

INTEGER = {"type": "integer"}
EVERYWHERE: list[tuple[dict[str, Any], str]] = [
    ({"type": "array", "items": INTEGER, "uniqueItems": True}, "'uniqueItems', at #;"),
    ({"type": "array", "items": INTEGER, "contains": {"const": 5}}, "'contains'"),
    ({"type": "string", "not": {"const": "a"}}, "'not'"),
    ({"type": "object", "properties": {"a": {"if": {}, "then": {}}}}, "'if', 'then', at #/properties/a;"),
    ({"type": "object", "properties": {"a": INTEGER}, "dependentRequired": {"a": ["b"]}}, "'dependentRequired'"),
    ({"allOf": [INTEGER, {"type": "number"}]}, "'allOf' with more than one schema"),
    ({"$defs": {"n": INTEGER}, "$ref": "#/$defs/n", "maxItems": 5}, "'maxItems' beside '$ref'"),
    (
        {"type": "object", "properties": {"a": INTEGER}, "required": ["a"], "anyOf": [{}]},
        "'properties', 'required', 'type' beside 'anyOf'",
    ),
    ({"type": "integer", "enum": [1, "a"]}, "'type' beside 'enum' when a value has another type ('a')"),
    ({"type": "string", "const": 1}, "'type' beside 'const'"),
    ({"enum": ["a", "bb"], "maxLength": 1}, "'maxLength' beside 'enum'"),
    ({"minLength": 2}, "'minLength' without 'type'"),
    ({"maxItems": 2}, "'maxItems' without 'type'"),
    ({"type": "number", "multipleOf": 0.5}, "'multipleOf'"),
    (
        {"type": "object", "properties": {"a": INTEGER}, "required": ["a", "b"]},
        "'required' for 'b', which 'properties' does not declare",
    ),
    ({"type": "array", "items": {"type": "string", "pattern": 'a"b'}}, "'pattern' that may match a character"),
    ({"type": "string", "format": "date", "pattern": "^x"}, "beside"),
    ({"$dynamicRef": "#x"}, "'$dynamicRef'"),
]
XGRAMMAR = [
    ({"type": "string", "pattern": "^a+$", "minLength": 3}, "'minLength' beside 'pattern'"),
    ({"type": "integer", "multipleOf": 5, "minimum": 7}, "'multipleOf' beside 'minimum'"),
    ({"type": "string", "format": "json-pointer"}, "'format' 'json-pointer'"),
    (
        {"type": "object", "properties": {"a": INTEGER}, "propertyNames": {"maxLength": 3}},
        "'propertyNames' beside 'properties'",
    ),
    ({"type": "object", "additionalProperties": True, "minProperties": 2}, "'minProperties' beside"),
]
OUTLINES = [
    ({"type": "integer", "minimum": 5}, "'minimum'"),
    ({"type": "string", "pattern": "^.*$"}, "'pattern' that may match"),
    ({"type": "object", "properties": {'a"b': INTEGER}}, "'properties' with a name that JSON must escape"),
    ({"type": "string", "format": "email"}, "'format' 'email'"),
    ({"type": "object"}, "cannot generate an object without 'properties'"),
    ({"type": "array"}, "cannot generate an array without 'items'"),
    ({"type": "array", "items": {}}, "cannot generate a value of any type, at #/items"),
]
CASES = [
    *((xgrammar.SCHEMAS, *case) for case in EVERYWHERE + XGRAMMAR),
    *((outlines.SCHEMAS, *case) for case in EVERYWHERE + OUTLINES),
]


@pytest.mark.parametrize(("rules", "schema", "reason"), CASES)
def test_keywords_that_would_be_ignored_are_refused(rules: Any, schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        rules.parse(json.dumps(schema))
    assert reason in str(caught.value)
    assert rules.backend in str(caught.value)
    assert (caught.value.param, caught.value.code) == ("json_schema", "unsupported_schema")


@pytest.mark.parametrize(
    "schema",
    [
        {
            "$schema": "x",
            "title": "T",
            "type": "object",
            "properties": {"a": {"description": "d", "default": 1, **INTEGER}},
        },
        {"type": "string", "enum": ["a", "b"], "description": "either"},
        {"type": ["integer", "null"], "enum": [1, 2.0, None]},
        {"type": "array", "items": INTEGER, "uniqueItems": False},
        {"$defs": {"unused": {"not": {}}}, "type": "integer"},
        {"type": "string", "format": "made-up"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": INTEGER}, "$ref": "#/$defs/a"},
        {"type": "object", "properties": {"a/b~c": INTEGER, "d": {"$ref": "#/properties/a~1b~0c"}}},
        {"type": "array", "prefixItems": [INTEGER], "items": {"$ref": "#/prefixItems/0"}},
        {"oneOf": [INTEGER, {"type": "null"}]},
        {"type": "string", "pattern": r"^[a-z]{3}-\d+$"},
    ],
)
@pytest.mark.parametrize("rules", [xgrammar.SCHEMAS, outlines.SCHEMAS])
def test_everyday_schemas_pass(rules: Any, schema: dict[str, Any]) -> None:
    assert rules.parse(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "#/$defs/none"}, "points nowhere"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "leads back to itself"),
        ({"$ref": "other.json"}, "must point into the schema itself"),
        ({"$ref": 5}, "must point into the schema itself"),
        ({"type": "array", "items": [INTEGER]}, "#/items must be a schema"),
        ({"type": "object", "properties": {"a": 1}}, "#/properties/a must be a schema"),
    ],
)
def test_broken_schemas_are_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        xgrammar.SCHEMAS.parse(json.dumps(schema))


def test_depth_is_limited() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "x")
    with pytest.raises(RequestError, match="nested more than 100 levels"):
        parse_json("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "x")
    with pytest.raises(RequestError, match="not valid JSON"):
        parse_json("{", "x")


@pytest.mark.parametrize(
    ("pattern", "filtered", "unfiltered"),
    [
        (r"^[a-z]+\d{2}(x|y)?$", None, None),
        ("^.*$", None, "."),
        ("[^a]", None, "[^a]"),
        (r"\S", None, r"\S"),
        ("[ -~]", None, "[ -~]"),
        ('a"', '"', '"'),
        (r"\\", r"\\", r"\\"),
        (r"[\n]", r"[\n]", r"[\n]"),
        (r"\t", r"\t", r"\t"),
        (r"\x22", r"\x22", r"\x22"),
        (r"\u0022", r"\u0022", r"\u0022"),
        (r"\u0041", None, None),
        (r"\cA", r"\cA", r"\cA"),
        (r"\p{L}", r"\p", r"\p"),
        (r"(?:a)\.(?P<n>b)", None, None),
    ],
)
def test_patterns_that_could_leave_their_string_are_found(
    pattern: str, filtered: str | None, unfiltered: str | None
) -> None:
    assert unsafe_piece(pattern, wide_are_safe=True) == filtered
    assert unsafe_piece(pattern, wide_are_safe=False) == unfiltered


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GrammarBackend]:
    tokenizer = load_tokenizer(byte_level_bpe(Path(tmp_path_factory.mktemp("tokenizer"))))
    env = environment(tokenizer)
    return {"xgrammar": xgrammar.XGrammarBackend(env), "outlines": outlines.OutlinesBackend(env)}


@pytest.mark.parametrize("name", ["xgrammar", "outlines"])
@given(random=st.randoms(use_true_random=True))
@settings(deadline=None, max_examples=60)
def test_a_schema_is_refused_or_followed(backends: dict[str, GrammarBackend], name: str, random: Random) -> None:
    backend = backends[name]
    schema = random_schema(random)
    try:
        compiled = backend.compile("json_schema", json.dumps(schema))
    except RequestError:
        return
    ids = random_output(backend.env, compiled.matcher(), random, hurry_after=random.choice([0, 5, 25]))
    try:
        document = spell(backend.env.tokenizer, ids).decode()
    except UnicodeDecodeError:
        # Half characters count differently in lengths once they are replaced.
        return
    jsonschema.validate(json.loads(document), schema, cls=jsonschema.Draft202012Validator)
