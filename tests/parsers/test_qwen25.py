"""What only qwen25 does: arguments that are streamed while they are written, and calls that break off."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
from hypothesis import given, settings

from hookline.testkit.parser_answers import TOOLS, find_calls
from hookline.testkit.splits import all_ways, cut, fragments
from hookline_parsers.function_call.qwen25 import Qwen25Parser

_NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
_PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


class Eager(Qwen25Parser):
    """Streams arguments from early on."""

    max_held: ClassVar[int] = 60


class Patient(Qwen25Parser):
    """Never streams arguments."""

    max_held: ClassVar[int] = 10**9


Answer = tuple[str, list[tuple[str, str]], bool]


def _parse(pieces: list[str], kind: type[Qwen25Parser] = Qwen25Parser) -> Answer:
    """Content, calls as (name, arguments), and whether one is incomplete."""
    found = find_calls(kind(TOOLS), pieces)
    return found.content, list(found.calls), found.incomplete


def test_a_call_behind_a_broken_one_is_found() -> None:
    broken = '<tool_call>{"name": oops}</tool_call>\n'
    for pieces in all_ways(f"<tool_call>{broken}{_NOW}"):
        assert _parse(pieces) == (f"<tool_call>{broken}".rstrip(), [("now", "{}")], False)


@pytest.mark.parametrize("tail", ["", "\\", "\\u12", '", "x', '", "x": ', '", "x": 12.', '", "x": tr'])
def test_a_long_call_that_is_cut_off_is_marked_incomplete(tail: str) -> None:
    arguments = '{"code": "' + "x = 1; " * 300 + tail
    for pieces in all_ways('<tool_call>\n{"name": "run", "arguments": ' + arguments):
        assert _parse(pieces) == ("", [("run", arguments)], True)


def test_a_long_call_that_breaks_off_gives_the_rest_as_content() -> None:
    arguments = '{"code": "' + "x = 1; " * 300 + '", '
    text = '<tool_call>\n{"name": "run", "arguments": ' + arguments + "}}\n</tool_call>"
    for pieces in all_ways(text):
        assert _parse(pieces) == ("}}\n</tool_call>", [("run", arguments)], True)


def test_a_long_body_without_a_name_is_content() -> None:
    text = '<tool_call>{"arguments": {"code": "' + "x" * 2000 + '"}, "name": "run"}</tool_call>'
    for pieces in all_ways(text):
        assert _parse(pieces) == (text, [], False)


def test_long_arguments_are_streamed_while_they_are_written() -> None:
    parser = Qwen25Parser(TOOLS)
    assert not parser.feed('<tool_call>{"name": "run", "arguments": {"code": "').calls
    (first,) = parser.feed("a" * 1024).calls
    assert first.name == "run"
    assert first.arguments.startswith('{"code": "aaa')
    (second,) = parser.feed("bbb").calls
    assert (second.index, second.name, second.arguments) == (0, None, "bbb")


@pytest.mark.parametrize("kind", [Qwen25Parser, Eager, Patient])
@settings(deadline=None)
@given(
    case=cut(
        fragments(
            "<tool_call>",
            "</tool_call>",
            _NOW,
            _PARIS,
            '{"name": "f", ',
            '"arguments": ',
            '"arguments": {',
            '"name": "g"',
            '"name": ',
            "}",
            "{",
            "[1, 2]",
            '"a": "b", ',
            '"a": "' + "long " * 12 + '"',
            '"\\"',
            ", ",
            "null",
            '"{\\"a\\": 1}"',
            "text",
            "\n",
            " ",
            "<",
            "<tool",
            "</",
            "\\",
        )
    )
)
def test_cuts_never_change_the_answer(case: tuple[str, list[str]], kind: type[Qwen25Parser]) -> None:
    text, pieces = case
    answer = _parse([text], kind)
    assert _parse(pieces, kind) == answer
    assert _parse(list(text), kind) == answer
    _, calls, incomplete = answer
    for _, arguments in calls if not incomplete else []:
        assert isinstance(json.loads(arguments), dict)
