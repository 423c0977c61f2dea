"""Required calls, strict functions, schemas and bounded reasoning, as the official clients see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.factories.demo_server import RunningServer

_WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
    "$defs": {"City": {"type": "string", "maxLength": 20}},
}
_ASK: Any = [{"role": "user", "content": "What is the weather in Paris in celsius?"}]
_SUM: Any = [{"role": "user", "content": "What is 12 + 30?"}]
_RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["answer"],
    "additionalProperties": False,
}


def _tool(name: str, parameters: Any = None, **more: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}, **more}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("logs"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as connected:
        yield connected


def _create(client: openai.OpenAI, messages: Any = _ASK, **fields: Any) -> Any:
    options = {"max_tokens": 200, "temperature": 0.0, **fields}
    return client.chat.completions.create(model="demo", messages=messages, **options)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
@pytest.mark.parametrize("thinks", [True, False])
def test_a_call_comes_behind_the_reasoning(client: openai.OpenAI, choice: Any, thinks: bool) -> None:
    fields: dict[str, Any] = {
        "tools": [_tool("get_weather", _WEATHER), _tool("now")],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "extra_body": {"chat_template_kwargs": {"enable_thinking": thinks}},
    }
    whole = _create(client, **fields).choices[0]
    assert whole.finish_reason == "tool_calls"
    (call,) = whole.message.tool_calls
    if call.function.name == "get_weather":
        assert json.loads(call.function.arguments)["unit"] in ("celsius", "fahrenheit")
    assert bool(whole.message.reasoning_content) is thinks
    chunks = [chunk.choices[0].delta for chunk in _create(client, stream=True, **fields) if chunk.choices]
    pieces = [piece for delta in chunks for piece in delta.tool_calls or ()]
    assert pieces[0].function.name == call.function.name
    assert "".join(piece.function.arguments or "" for piece in pieces) == call.function.arguments
    told = "".join(getattr(delta, "reasoning_content", None) or "" for delta in chunks)
    assert told == (whole.message.reasoning_content or "")


def test_log_probabilities_are_of_the_tokens_of_each_piece(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {
        "tools": [_tool("get_weather", _WEATHER)],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "logprobs": True,
    }
    whole = _create(client, **fields).choices[0]
    entries = [(entry.token, entry.logprob) for entry in whole.logprobs.content]
    written = "".join(token for token, _ in entries)
    assert "get_weather" in written
    streamed = []
    for chunk in _create(client, stream=True, **fields):
        (choice,) = chunk.choices
        own = choice.logprobs.content if choice.logprobs else []
        streamed += [(entry.token, entry.logprob) for entry in own]
        told = getattr(choice.delta, "reasoning_content", None) or ""
        # The text of a piece is that of its tokens, markers and white space at its ends aside.
        assert told.strip() in "".join(entry.token for entry in own)
    assert [token for token, _ in streamed] == [token for token, _ in entries]
    assert [value for _, value in streamed] == pytest.approx([value for _, value in entries], abs=1e-4)


@pytest.mark.parametrize("limit", [0, 3, None])
def test_a_schema_comes_behind_bounded_reasoning(client: openai.OpenAI, limit: int | None) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "record", "schema": _RECORD}}
    extra = {} if limit is None else {"max_thinking_tokens": limit}
    answer = _create(client, _SUM, response_format=form, extra_body=extra)
    message = answer.choices[0].message
    assert 0 <= json.loads(message.content)["answer"] <= 99
    thought = answer.usage.completion_tokens_details.reasoning_tokens
    assert (thought > 0) is bool(message.reasoning_content)
    if limit is not None:
        # Both markers and the white space beside them count too.
        assert thought <= limit + 6


def test_strict_functions_and_formats_beside_tools(client: openai.OpenAI) -> None:
    tools = [_tool("get_weather", _WEATHER, strict=True), _tool("now")]
    answer = _create(client, tools=tools).choices[0]
    assert answer.finish_reason == "tool_calls"
    for call in answer.message.tool_calls:
        if call.function.name == "get_weather":
            assert json.loads(call.function.arguments)["unit"] in ("celsius", "fahrenheit")
    form = {"type": "json_schema", "json_schema": {"name": "record", "schema": _RECORD}}
    either = _create(client, _SUM, tools=tools, response_format=form).choices[0]
    if either.finish_reason == "stop":
        assert json.loads(either.message.content)["answer"] <= 99
    else:
        assert either.message.tool_calls


def test_anthropic_budgets_and_tools(server: RunningServer) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        message = client.messages.create(
            model="demo",
            max_tokens=300,
            messages=_ASK,
            tools=[{"name": "get_weather", "input_schema": _WEATHER}],
            tool_choice={"type": "any"},
            thinking={"type": "enabled", "budget_tokens": 2},
            extra_body={"temperature": 0.0},
        )
    assert message.stop_reason == "tool_use"
    kinds = [block.type for block in message.content]
    assert kinds[0] == "thinking"
    assert set(kinds[1:]) == {"tool_use"}


# --- bad input ---

_CYCLE = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": [], "tool_choice": "required"}, "tool_choice needs tools"),
        ({"tools": [_tool("f"), _tool("f")]}, "has the name 'f' of another tool"),
        (
            {"tools": [_tool("f")], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "not among the tools",
        ),
        ({"tools": [_tool("f")], "tool_choice": "always"}, "tool_choice must be"),
        ({"tools": [_tool("f", _CYCLE)], "tool_choice": "required"}, "constrained output"),
        ({"tools": [_tool("f", {"type": "strin"})], "tool_choice": "required"}, "constrained output"),
        ({"tools": [_tool("f", {"not": {}}, strict=True)]}, "these tools need constrained output"),
        (
            {"tools": [_tool("f")], "tool_choice": "required", "response_format": {"type": "json_object"}},
            "constrains the output by itself",
        ),
        ({"extra_body": {"max_thinking_tokens": -1}}, "max_thinking_tokens"),
        ({"extra_body": {"max_thinking_tokens": 1.5}}, "max_thinking_tokens"),
        ({"extra_body": {"regex": "a", "ebnf": 'root ::= "a"'}}, "only one of"),
    ],
)
def test_bad_wishes_are_refused(client: openai.OpenAI, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        _create(client, **fields)
    assert words in str(caught.value)
    assert _create(client, _SUM).choices[0].finish_reason == "stop"


def test_a_thousand_tools(client: openai.OpenAI) -> None:
    tools = [_tool(f"f{index}", _WEATHER) for index in range(1000)]
    with pytest.raises(openai.BadRequestError, match="context"):
        # Not their number is too much, but the text that shows them.
        _create(client, tools=tools, tool_choice="required")
    named = {"type": "function", "function": {"name": "f7"}}
    answer = _create(client, tools=tools, tool_choice=named)
    assert answer.choices[0].message.tool_calls[0].function.name == "f7"
