from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.frontend.output_parser import ComposedOutputParser
from hookline.interfaces.parsers import FunctionCallDelta
from hookline.testkit.splits import all_ways, cut, fragments
from hookline_api.chat.forced_calls import ForcedCalls
from hookline_api.chat.tools import ToolWish, array_schema, read_tools

xgrammar: Any = pytest.importorskip("xgrammar")
testing: Any = pytest.importorskip("xgrammar.testing")

_TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/Node"}, "self": {"$ref": "#"}},
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/Node"}},
            "required": ["value"],
        }
    },
}
_OTHER_NODE = {
    "type": "object",
    "properties": {"node": {"$ref": "#/$defs/Node"}},
    "required": ["node"],
    "$defs": {"Node": {"type": "string"}},
}


def _tool(name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name}
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


_TOOLS = [_tool("tree", _TREE), _tool("other", _OTHER_NODE), _tool("plain")]


def _schema(wish: ToolWish) -> str:
    """What demands calls of a model whose format of calls is not known."""
    assert wish.is_required
    return array_schema(wish.tools, is_parallel=wish.is_parallel)


def _accepts(schema: str, calls: list[Any]) -> bool:
    """Whether the grammar that the schema becomes lets these calls be written."""
    grammar = xgrammar.Grammar.from_json_schema(schema)
    return bool(testing._is_grammar_accept_string(grammar, json.dumps(calls)))


@pytest.mark.parametrize(
    ("calls", "is_valid"),
    [
        ([{"name": "tree", "parameters": {"root": {"value": 1, "next": {"value": 2}}}}], True),
        ([{"name": "tree", "parameters": {"root": {"value": 1, "next": {"value": "2"}}}}], False),
        ([{"name": "tree", "parameters": {"self": {"root": {"value": 1}}}}], True),
        ([{"name": "tree", "parameters": {"self": {"root": {}}}}], False),
        # The definitions of two tools have one name and stay apart.
        ([{"name": "other", "parameters": {"node": "x"}}], True),
        ([{"name": "other", "parameters": {"node": {"value": 1}}}], False),
        ([{"name": "plain", "parameters": {}}, {"name": "plain", "parameters": {}}], True),
        ([{"name": "plain", "parameters": {"any": 1}}], False),
        ([{"name": "plain", "parameters": 3}], False),
        ([{"name": "unknown", "parameters": {}}], False),
        ([{"name": "plain"}], False),
        ([], False),
    ],
)
def test_the_schema_of_required_calls_takes_exactly_calls_to_the_tools(calls: list[Any], is_valid: bool) -> None:
    assert _accepts(_schema(read_tools(_TOOLS, "required", None)), calls) is is_valid


def test_a_named_tool_is_called_exactly_once() -> None:
    wish = read_tools(_TOOLS, {"type": "function", "function": {"name": "plain"}}, None)
    call = {"name": "plain", "parameters": {}}
    assert [_accepts(_schema(wish), [call] * count) for count in range(3)] == [False, True, False]


def test_required_calls_are_one_alone_without_parallel_tool_calls() -> None:
    assert json.loads(_schema(read_tools(_TOOLS, "required", False)))["maxItems"] == 1


def _read(pieces: list[str]) -> tuple[str, list[tuple[str, str]], bool]:
    parser = ForcedCalls(ComposedOutputParser(None, None))
    deltas: list[FunctionCallDelta] = [parser.feed(piece)[1] for piece in pieces] + [parser.finish()[1]]
    calls: list[tuple[str, str]] = []
    for piece in (piece for delta in deltas for piece in delta.calls):
        if piece.name is not None:
            assert piece.index == len(calls)
            calls.append((piece.name, piece.arguments))
        else:
            assert piece.index == len(calls) - 1
            calls[-1] = (calls[-1][0], calls[-1][1] + piece.arguments)
    return "".join(delta.content for delta in deltas), calls, any(delta.incomplete for delta in deltas)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('[{"name": "f", "parameters": {"a": 1}}]', ("", [("f", '{"a": 1}')], False)),
        (' [ {"parameters": {"a": []}, "name": "f"} , {"name":"g"} ] ', ("", [("f", '{"a": []}'), ("g", "{}")], False)),
        ('[{"name": "f", "parameters": {"a": "x', ("", [("f", '{"a": "x')], True)),
        ('[{"name": "f"', ("", [("f", "")], True)),
        ('[{"na', ("", [], False)),
        ("I would rather not.", ("I would rather not.", [], False)),
        ('[{"name": "f", "parameters": {}}] and more', ("and more", [("f", "{}")], False)),
        ('[{"name": "f", "parameters": {}, oops}]', ("oops}]", [("f", "{}")], True)),
        ("", ("", [], False)),
    ],
)
def test_forced_calls_are_read_the_same_for_every_way_of_cutting(text: str, answer: Any) -> None:
    for pieces in all_ways(text):
        assert _read(pieces) == answer


@settings(deadline=None)
@given(
    cut(
        fragments(
            "[", "]", ", ", "{", "}", '{"name": "f", ', '"parameters": ', '{"a": "b"}', '"name": "g"', "x", " ", '"'
        )
    )
)
def test_cuts_never_change_the_answer(case: tuple[str, list[str]]) -> None:
    text, pieces = case
    assert _read(pieces) == _read([text])


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=3), min_size=1), st.data())
def test_every_call_that_json_can_write_arrives(arguments: list[dict[str, Any]], data: st.DataObject) -> None:
    text = json.dumps([{"name": f"f{index}", "parameters": value} for index, value in enumerate(arguments)])
    _, pieces = data.draw(cut(st.just(text)))
    content, calls, incomplete = _read(pieces)
    assert (content, incomplete) == ("", False)
    assert [json.loads(raw) for _, raw in calls] == arguments
