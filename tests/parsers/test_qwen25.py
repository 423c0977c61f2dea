from __future__ import annotations

import json
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.testkit.splits import all_ways, cut, fragments
from hookline_parsers.function_call.qwen25 import Qwen25Parser

_TOOLS = [
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}},
    },
]
_NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
_PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


class _Eager(Qwen25Parser):
    """Streams arguments from early on."""

    max_held: ClassVar[int] = 60


class _Patient(Qwen25Parser):
    """Never streams arguments."""

    max_held: ClassVar[int] = 10**9


Answer = tuple[str, list[tuple[str, str]], bool]


def _parse(pieces: list[str], kind: type[Qwen25Parser] = Qwen25Parser) -> Answer:
    """Content, calls as (name, arguments), and whether one is incomplete."""
    parser = kind(_TOOLS)
    deltas = [parser.feed(piece) for piece in pieces] + [parser.finish()]
    calls: list[tuple[str, str]] = []
    for piece in (piece for delta in deltas for piece in delta.calls):
        if piece.name is not None:
            assert piece.index == len(calls), "calls are numbered from 0"
            calls.append((piece.name, piece.arguments))
        else:
            assert piece.index == len(calls) - 1, "pieces belong to the last call"
            name, arguments = calls[-1]
            calls[-1] = (name, arguments + piece.arguments)
    return "".join(delta.content for delta in deltas), calls, any(delta.incomplete for delta in deltas)


_CORPUS: list[tuple[str, str, list[tuple[str, str]]]] = [
    # The four cases of every format: one call, two calls, no arguments, no arguments and then some.
    (_PARIS, "", [("get_weather", '{"city": "Paris"}')]),
    (f"{_PARIS}\n{_PARIS}", "", [("get_weather", '{"city": "Paris"}')] * 2),
    (_NOW, "", [("now", "{}")]),
    (f"{_NOW}\n{_PARIS}", "", [("now", "{}"), ("get_weather", '{"city": "Paris"}')]),
    # Text around calls.
    ("no call at all", "no call at all", []),
    (f"Let me see.\n{_NOW}", "Let me see.", [("now", "{}")]),
    (f"Before.\n{_NOW}\nAfter. ", "Before.\nAfter. ", [("now", "{}")]),
    (f"\n\n{_NOW}\n\n", "", [("now", "{}")]),
    (f"A\n{_NOW}\nB\n{_NOW}\n", "A\nB", [("now", "{}")] * 2),
    # Bodies.
    (
        '<tool_call>{"arguments": {"a": [1, {"b": null}]}, "name": "f"}</tool_call>',
        "",
        [("f", '{"a": [1, {"b": null}]}')],
    ),
    ('<tool_call>{"name": "f", "parameters": {"x": 1}}</tool_call>', "", [("f", '{"x": 1}')]),
    ('<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    ('<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [("f", "{}")]),
    (
        '<tool_call>{"id": 7, "name": "f", "arguments": {"q": "say \\"hi\\" \\u00e9"}, "x": []}</tool_call>',
        "",
        [("f", '{"q": "say \\"hi\\" \\u00e9"}')],
    ),
    ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("f", '{"a": 1}')]),
    (
        '<tool_call>{"name": "größe", "arguments": {"s": "漢字 👩‍👧"}}</tool_call>',
        "",
        [("größe", '{"s": "漢字 👩‍👧"}')],
    ),
    (
        '<tool_call>{"name": "f", "arguments": {"s": "</tool_call><tool_call>"}}</tool_call>',
        "",
        [("f", '{"s": "</tool_call><tool_call>"}')],
    ),
    ('<tool_call>{"name": "f", "arguments": {"s": "a\nb"}}</tool_call>', "", [("f", '{"s": "a\\nb"}')]),
    ('<tool_call>{"name": "f", "name": "g", "arguments": {"a": 1}}</tool_call>', "", [("f", '{"a": 1}')]),
    # Endings.
    ('<tool_call>\n{"name": "now", "arguments": {}}', "", [("now", "{}")]),
    ('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_c', "", [("now", "{}")]),
    ('<tool_call>\n{"name": "now", "arguments": {}\n</tool_call>', "", [("now", "{}")]),
    (
        f'<tool_call>\n{{"name": "now", "arguments": {{}}}}\n{_PARIS}',
        "",
        [("now", "{}"), ("get_weather", '{"city": "Paris"}')],
    ),
    # A function that the request does not list is the caller's to refuse.
    ('<tool_call>{"name": "rm_rf", "arguments": {}}</tool_call>', "", [("rm_rf", "{}")]),
]
_NO_CALLS = [
    '<tool_call>\n{"name": "f", "arguments": {"a": }}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": 5}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": "not an object"}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": "{\\"a\\": 1}, {}"}\n</tool_call>',
    '<tool_call>\n{"name": "", "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"arguments": {}}\n</tool_call>',
    "<tool_call>\nnow()\n</tool_call>",
    "Write <tool_call> to call a tool, </tool_call> to end it.",
    # Cut off by the end of the output.
    "text <tool",
    "<tool_call>",
    '<tool_call>\n{"na',
    '<tool_call>\n{"name": "f", "arguments": {"city": "Par',
    '<tool_call><tool_call>{"name"',
]


@pytest.mark.parametrize("kind", [Qwen25Parser, _Eager, _Patient])
@pytest.mark.parametrize(("text", "content", "calls"), _CORPUS)
def test_calls_are_found_for_every_way_of_cutting(
    text: str, content: str, calls: list[tuple[str, str]], kind: type[Qwen25Parser]
) -> None:
    for pieces in all_ways(text):
        assert _parse(pieces, kind) == (content, calls, False)
    for _, arguments in calls:
        assert isinstance(json.loads(arguments), dict)


@pytest.mark.parametrize("text", _NO_CALLS)
def test_what_is_no_call_is_content_word_for_word(text: str) -> None:
    for pieces in all_ways(text):
        assert _parse(pieces) == (text, [], False)


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
    parser = Qwen25Parser(_TOOLS)
    assert not parser.feed('<tool_call>{"name": "run", "arguments": {"code": "').calls
    (first,) = parser.feed("a" * 1024).calls
    assert first.name == "run"
    assert first.arguments.startswith('{"code": "aaa')
    (second,) = parser.feed("bbb").calls
    assert (second.index, second.name, second.arguments) == (0, None, "bbb")


@pytest.mark.parametrize("kind", [Qwen25Parser, _Eager, _Patient])
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


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=40).filter(str.strip), st.dictionaries(st.text(), _json, max_size=3))
    ),
    st.booleans(),
    st.data(),
)
def test_every_call_that_json_can_write_arrives(
    calls: list[tuple[str, dict[str, object]]], ascii_only: bool, data: st.DataObject
) -> None:
    bodies = [json.dumps({"name": name, "arguments": value}, ensure_ascii=ascii_only) for name, value in calls]
    _, pieces = data.draw(cut(st.just("\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies))))
    content, found, incomplete = _parse(pieces)
    assert (content, incomplete) == ("", False)
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
