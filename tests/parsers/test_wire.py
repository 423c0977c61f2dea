"""What formats say of how calls are written: a grammar made of it accepts what templates render, and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import xgrammar

from hookline.formats.wire import MAX_CALLS
from tests.parsers.formats import FORMATS, RenderedFormat, parser_class

TOOLS: tuple[Mapping[str, Any], ...] = (
    {"type": "function", "function": {"name": "now"}},
    {
        "type": "function",
        "function": {
            "name": "search",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"type": "string"},
                    "unit": {"type": "string", "enum": ["metric", "imperial"]},
                    "limit": {"type": "integer"},
                    "exact": {"type": "boolean"},
                    "filters": {"$ref": "#/$defs/Filters"},
                    "note": {"type": ["string", "null"]},
                },
                "required": ["query"],
                "additionalProperties": False,
                "$defs": {"Filters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
            },
        },
    },
)
#: Of one parser two ways are read, and one is written.
_WRITTEN = [form for at, form in enumerate(FORMATS) if form.parser not in [each.parser for each in FORMATS[:at]]]
_IDS = [form.parser for form in _WRITTEN]


def _matcher(form: RenderedFormat, *, max_calls: int = MAX_CALLS) -> xgrammar.GrammarMatcher:
    structure = parser_class(form.parser).required_calls(TOOLS, max_calls=max_calls)
    assert structure is not None
    return _compiled(structure)


def _compiled(structure: Mapping[str, Any]) -> xgrammar.GrammarMatcher:
    vocabulary = [bytes([at]) for at in range(255)] + [b"</s>"]
    info = xgrammar.TokenizerInfo(vocabulary, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[255])
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)
    return xgrammar.GrammarMatcher(
        compiler.compile_structural_tag(json.dumps({"type": "structural_tag", "format": structure}))
    )


def _accepts(form: RenderedFormat, text: str, *, max_calls: int = MAX_CALLS) -> bool:
    return _is_whole(_matcher(form, max_calls=max_calls), text)


def _is_whole(matcher: xgrammar.GrammarMatcher, text: str) -> bool:
    return bool(matcher.accept_string(text)) and bool(matcher.accept_token(255))


def _render(form: RenderedFormat, *calls: tuple[str, Mapping[str, Any]]) -> str:
    return form.render_calls(calls)


@pytest.mark.parametrize("form", _WRITTEN, ids=_IDS)
@pytest.mark.parametrize(
    "calls",
    [
        [("now", {})],
        [("search", {"query": "a <b> 12"})],
        [("search", {"query": "x", "unit": "metric", "limit": 3, "exact": True, "filters": {"a": 1}, "note": "n"})],
        [("search", {"query": "x", "limit": 3}), ("now", {}), ("search", {"query": "y", "filters": {"a": 2}})],
    ],
    ids=["no arguments", "text", "all", "several"],
)
def test_what_templates_render_is_accepted(form: RenderedFormat, calls: list[tuple[str, Mapping[str, Any]]]) -> None:
    # Of harmony one call ends the output.
    assert _accepts(form, _render(form, *(calls[:1] if form.parser == "gpt-oss" else calls)))


@pytest.mark.parametrize("form", _WRITTEN, ids=_IDS)
def test_all_else_is_refused(form: RenderedFormat) -> None:
    wrong: list[list[tuple[str, Mapping[str, Any]]]] = [
        [("other", {})],
        [("search", {})],
        [("search", {"query": "x", "limit": "three"})],
        [("search", {"query": "x", "unit": "feet"})],
        [("search", {"query": "x", "filters": {"a": "b"}})],
    ]
    for calls in wrong:
        assert not _accepts(form, _render(form, *calls)), calls
    assert not _accepts(form, "")
    assert not _accepts(form, "text " + _render(form, ("now", {})))
    assert not _accepts(form, _render(form, ("now", {}), ("now", {})), max_calls=1)
    assert _accepts(form, _render(form, ("now", {})), max_calls=1)
