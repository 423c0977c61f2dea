"""Random answers under the grammars that formats make of tools are read back as calls that follow their schemas."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from hookline.formats.wire import MAX_CALLS
from hookline.interfaces.grammar import CompiledGrammar, GrammarBackend, GrammarEnv, GrammarMatcher
from hookline.interfaces.parsers import FunctionCallParser
from hookline.testkit.grammar_walks import allowed, environment
from hookline.testkit.parser_answers import Found, join_calls
from hookline.testkit.vocabularies import byte_level
from hookline.text.tokenizer import Tokenizer
from tests.parsers.formats import FORMATS, RenderedFormat, parser_class

_BACKENDS = {"xgrammar": "XGrammarBackend", "llguidance": "LLGuidanceBackend"}

_FILTERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "sub": {"$ref": "#/$defs/Filters"}},
    "required": ["a"],
    "additionalProperties": False,
}
_PROPERTIES: Mapping[str, Any] = {
    "query": {"type": "string"},
    "code": {"type": "string", "minLength": 2, "maxLength": 5},
    "unit": {"enum": ["metric", "imperial", None, 3]},
    "plan": {"type": "string", "const": "basic"},
    "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
    "limit": {"type": "integer"},
    "exact": {"type": "boolean"},
    "filters": {"$ref": "#/$defs/Filters"},
    "note": {"type": ["string", "null"]},
    "mark": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}, {"type": "null"}]},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
    "kind": {"allOf": [{"$ref": "#/$defs/Kind"}], "description": "as some generators write it"},
}


def _tool(name: str, parameters: Mapping[str, Any] | None, **more: Any) -> Mapping[str, Any]:
    function = {"name": name, **more} if parameters is None else {"name": name, "parameters": parameters, **more}
    return {"type": "function", "function": function}


SEARCH: Mapping[str, Any] = {
    "type": "object",
    "properties": _PROPERTIES,
    "required": ["query", "unit", "filters", "mark"],
    "additionalProperties": False,
    "$defs": {"Filters": _FILTERS, "Kind": {"type": "string", "enum": ["x", "y z"]}},
}
#: All of its schema is behind a reference.
REFERRED: Mapping[str, Any] = {
    "$ref": "#/$defs/Arguments",
    "$defs": {
        "Arguments": {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
            "additionalProperties": False,
        }
    },
}
TOOLS = (
    _tool("now", None),
    _tool("search", SEARCH, strict=True),
    _tool("get-all.items", REFERRED, strict=True),
    _tool("loose", {"type": "object", "properties": {"x": {"type": "string"}}}),
)
_SCHEMAS = {"now": {"maxProperties": 0}, "search": SEARCH, "get-all.items": REFERRED, "loose": {"type": "object"}}
_WRITTEN = [form for at, form in enumerate(FORMATS) if form.parser not in [each.parser for each in FORMATS[:at]]]
_IDS = [form.parser for form in _WRITTEN]
#: What ends the parts of calls, the outermost first.
_CLOSERS = (
    *("</parameter>", "</arg_value>", "</steptml:parameter>", "</｜DSML｜parameter>"),
    *("</invoke>", "</function>", "</tool_call>", "</｜DSML｜invoke>", "</steptml:invoke>"),
    *('"', "}", "]", ")"),
)


@functools.cache
def _tokenizer(form: RenderedFormat, markers_are_special: bool) -> Tokenizer:
    texts = [form.render_calls([("search", {"query": "ab cd"})]) for _ in range(3)]
    return byte_level(texts, size=330, special=form.markers if markers_are_special else ())


@functools.cache
def _compiled(
    form: RenderedFormat, markers_are_special: bool, way: str, max_calls: int, backend: str = "xgrammar"
) -> CompiledGrammar:
    parser: type[FunctionCallParser] = parser_class(form.parser)
    write = parser.required_calls if way == "required" else parser.triggered_calls
    source = json.dumps({"type": "structural_tag", "format": write(TOOLS, max_calls=max_calls)})
    env = environment(_tokenizer(form, markers_are_special))
    return _backend(backend, env).compile("structural_tag", source)


def _backend(name: str, env: GrammarEnv) -> GrammarBackend:
    module = pytest.importorskip(f"hookline_grammar.{name}")
    made: GrammarBackend = getattr(module, _BACKENDS[name])(env)
    return made


def _take(matcher: GrammarMatcher, ids: Sequence[int]) -> bool:
    """Take all of these tokens, or none."""
    for at, index in enumerate(ids):
        if not matcher.accept_token(index):
            matcher.rollback(at)
            return False
    return True


def _walk(tokenizer: Tokenizer, matcher: GrammarMatcher, rng: random.Random, begin: str = "") -> str:
    """An answer drawn from the masks, which soon closes what is open."""
    ids = tokenizer.encode(begin, add_special_tokens=False)
    assert _take(matcher, ids), begin
    vocab_size = environment(tokenizer).vocab_size
    closers = [tokenizer.encode(text, add_special_tokens=False) for text in _CLOSERS]
    end = tokenizer.eos_token_id
    assert end is not None
    patience = rng.randint(0, 60)
    while True:
        choices = allowed(matcher, vocab_size)
        if len(ids) > patience:
            if end in choices:
                return tokenizer.decode(ids)
            # A bracket closes nothing in a text, nor a marker in a string: in any order.
            found = next((each for each in rng.sample(closers, len(closers)) if _take(matcher, each)), None)
            if found is not None:
                ids += found
                assert len(ids) < 3000, tokenizer.decode(ids)[-300:]
                continue
        index = rng.choice([index for index in choices if index != end] or choices)
        if index == end:
            return tokenizer.decode(ids)
        assert matcher.accept_token(index)
        ids.append(index)
        assert len(ids) < 3000, tokenizer.decode(ids)[-300:]


def _read(form: RenderedFormat, text: str) -> Found:
    parser = parser_class(form.parser)(TOOLS)
    return join_calls([*map(parser.feed, text), parser.finish()])


def _check(found: Found, text: str, schemas: Mapping[str, Any] = _SCHEMAS) -> None:
    assert not found.incomplete, text
    for name, arguments in found.calls:
        jsonschema.validate(json.loads(arguments), schemas[name])


@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize("markers_are_special", [False, True], ids=["spelt", "special"])
@pytest.mark.parametrize("form", _WRITTEN, ids=_IDS)
def test_required_calls_are_read_back(form: RenderedFormat, markers_are_special: bool, backend: str) -> None:
    tokenizer = _tokenizer(form, markers_are_special)
    for seed in range(4):
        max_calls = (1, 3)[seed % 2]
        rng = random.Random(seed)
        text = _walk(tokenizer, _compiled(form, markers_are_special, "required", max_calls, backend).matcher(), rng)
        found = _read(form, text)
        assert found.content == "", text
        assert 1 <= len(found.calls) <= max_calls, text
        _check(found, text)


@pytest.mark.parametrize("markers_are_special", [False, True], ids=["spelt", "special"])
@pytest.mark.parametrize("form", _WRITTEN, ids=_IDS)
def test_calls_amid_text_follow_strict_schemas(form: RenderedFormat, markers_are_special: bool) -> None:
    tokenizer = _tokenizer(form, markers_are_special)
    grammar = _compiled(form, markers_are_special, "triggered", 3)
    call = form.render_calls([("search", {"query": "ab"})])
    begin = "So: " + call[: call.index("search") + len("search")]
    if form.parser in ("llama3", "pythonic"):
        # Without a marker calls are found at the start alone, and a name makes them.
        begin = call[: call.index({"llama3": "{", "pythonic": "("}[form.parser], 1) + 1]
    for seed in range(4):
        rng = random.Random(seed)
        text = _walk(tokenizer, grammar.matcher(), rng, begin)
        found = _read(form, text)
        assert found.calls, text
        assert found.calls[0][0] == "search"
        _check(found, text, {**_SCHEMAS, "now": {"type": "object"}})
    # Text without calls is free, white space and JSON in it too.
    assert _take(grammar.matcher(), tokenizer.encode('Any text, {"a": [1]} <b>', add_special_tokens=False))


@pytest.mark.parametrize("form", _WRITTEN, ids=_IDS)
def test_the_number_of_calls_is_bounded(form: RenderedFormat) -> None:
    structure = parser_class(form.parser).required_calls(TOOLS, max_calls=MAX_CALLS)
    one: list[tuple[str, Mapping[str, Any]]] = [("now", {})]
    tokenizer = _tokenizer(form, False)
    grammar = _backend("xgrammar", environment(tokenizer)).compile(
        "structural_tag", json.dumps({"type": "structural_tag", "format": structure})
    )
    for count in (1, MAX_CALLS, MAX_CALLS + 1):
        if form.parser == "gpt-oss" and count > 1:
            # One call ends the output.
            continue
        text = form.render_calls(one * count)
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id or 0]
        assert _take(grammar.matcher(), ids) is (count <= MAX_CALLS), count
