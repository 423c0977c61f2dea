"""The conformance suite of function-call parsers, and what this one promises besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hookline.testkit.parser_answers import TOOLS, CallCase, find_calls, join_calls
from hookline.testkit.parsers import FunctionCallParserSuite
from hookline_bracket_tools.parser import BracketCallParser


class TestBracketTools(FunctionCallParserSuite):
    name = "bracket-tools"
    markers = ("[[call ", "]]")
    cases = (
        CallCase(text="See a[[0]] and [[call", content="See a[[0]] and [[call"),
        CallCase(text="[[call now {}]]", calls=[("now", {})]),
        CallCase(text="[[call  größe.x-1  {} ]]", calls=[("größe.x-1", {})]),
        CallCase(
            text='One moment. [[call get_weather {"city": "Paris"}]] Done.',
            content="One moment.  Done.",
            calls=[("get_weather", {"city": "Paris"})],
        ),
        CallCase(
            text='[[call f {"a": [[1, [2]]]}]]\n[[call now {}]]',
            content="\n",
            calls=[("f", {"a": [[1, [2]]]}), ("now", {})],
        ),
        # A line break in a string, which JSON would have escaped.
        CallCase(text='[[call f {"s": "a\nb"}]]', calls=[("f", {"s": "a\nb"})]),
        # No calls.
        CallCase(text="[[call me]] maybe", content="[[call me]] maybe"),
        CallCase(text="[[call {}]]", content="[[call {}]]"),
        CallCase(text="[[call two words {}]]", content="[[call two words {}]]"),
        CallCase(text="[[call [[call now {}]]", content="[[call ", calls=[("now", {})]),
        # Broken off, by the end and by what is no JSON.
        CallCase(text='[[call f {"a": "b', calls=[("f", {})], incomplete=True),
        CallCase(text='[[call f {"a": oops}]]', content="oops}]]", calls=[("f", {})], incomplete=True),
        # The brackets may be missing.
        CallCase(text="[[call now {} and on", content="and on", calls=[("now", {})]),
    )

    @classmethod
    def render(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return f"[[call {name} {json.dumps(arguments, ensure_ascii=False)}]]"


def test_arguments_are_streamed() -> None:
    parser = BracketCallParser(TOOLS)
    told = [parser.feed(piece).calls for piece in ("[[call f", ' {"text": "', "many", " words")]
    assert [[(call.name, call.arguments) for call in calls] for calls in told] == [
        [],
        [("f", ""), (None, '{"text": "')],
        [(None, "many")],
        [(None, " words")],
    ]


def test_a_head_that_never_ends_is_text() -> None:
    text = "[[call " + "x" * 500 + " {}]]"
    for pieces in ([text], list(text)):
        assert find_calls(BracketCallParser(TOOLS), pieces).content == text


def test_text_comes_at_once() -> None:
    parser = BracketCallParser(TOOLS)
    assert join_calls([parser.feed("a [0] [")]).content == "a [0] "
