"""When a call in a JSON object is told, and what becomes of one that breaks off."""

from __future__ import annotations

import pytest

from hookline.formats.json_call import MAX_HELD
from hookline.testkit.parser_answers import TOOLS, find_calls
from hookline.testkit.splits import all_ways
from hookline_parsers.function_call.qwen25 import Qwen25Parser

_NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'

Answer = tuple[str, list[tuple[str, str]], bool]


def _parse(pieces: list[str]) -> Answer:
    """Content, calls as (name, arguments), and whether one is incomplete."""
    found = find_calls(Qwen25Parser(TOOLS), pieces)
    return found.content, list(found.calls), found.incomplete


def test_a_call_behind_a_broken_one_is_found() -> None:
    broken = '<tool_call>{"name": oops}</tool_call>\n'
    for pieces in all_ways(f"<tool_call>{broken}{_NOW}"):
        assert _parse(pieces) == (f"<tool_call>{broken}".rstrip(), [("now", "{}")], False)


@pytest.mark.parametrize("tail", ["", "\\", "\\u12", '", "x', '", "x": ', '", "x": 12.', '", "x": tr'])
def test_a_call_that_is_cut_off_is_marked_incomplete(tail: str) -> None:
    arguments = '{"code": "x = 1' + tail
    for pieces in all_ways('<tool_call>\n{"name": "run", "arguments": ' + arguments):
        assert _parse(pieces) == ("", [("run", arguments)], True)


def test_a_call_that_breaks_off_gives_the_rest_as_content() -> None:
    arguments = '{"code": "x = 1", '
    text = '<tool_call>\n{"name": "run", "arguments": ' + arguments + "}}\n</tool_call>"
    for pieces in all_ways(text):
        assert _parse(pieces) == ("}}\n</tool_call>", [("run", arguments)], True)


def test_arguments_before_the_name_wait_for_it() -> None:
    text = '<tool_call>{"arguments": {"code": "' + "x" * 2000 + '"}, "name": "run"}</tool_call>'
    for pieces in all_ways(text):
        assert _parse(pieces) == ("", [("run", '{"code": "' + "x" * 2000 + '"}')], False)


def test_a_long_body_without_a_name_is_content() -> None:
    text = '<tool_call>{"arguments": {"code": "' + "x" * MAX_HELD + '"}, "name": "run"}</tool_call>'
    assert _parse([text]) == (text, [], False)
    assert _parse([text[at : at + 97] for at in range(0, len(text), 97)]) == (text, [], False)


def test_arguments_are_streamed_while_they_are_written() -> None:
    parser = Qwen25Parser(TOOLS)
    assert not parser.feed('<tool_call>{"name": "run", "arguments": ').calls
    (first,) = parser.feed('{"code": "aaa').calls
    assert (first.index, first.name, first.arguments) == (0, "run", '{"code": "aaa')
    (second,) = parser.feed("bbb").calls
    assert (second.index, second.name, second.arguments) == (0, None, "bbb")
