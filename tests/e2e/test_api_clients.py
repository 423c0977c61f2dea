"""The demo model through the official clients of the Responses and Messages APIs, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import anthropic
import openai
import pytest
from anthropic.types import MessageParam, ThinkingConfigParam, ToolParam, ToolUseBlock
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall, ResponseInputParam

from tests.factories.demo_server import RunningServer

_SUM = "What is 12 + 30?"
_WEATHER = "What is the weather in Paris?"
_SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_FUNCTION: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather of a city",
    "parameters": _SCHEMA,
    "strict": False,
}
_TOOL: ToolParam = {"name": "get_weather", "description": "Get the weather of a city", "input_schema": _SCHEMA}
_THINKING: ThinkingConfigParam = {"type": "enabled", "budget_tokens": 300}
_RESULT = '{"city": "Paris", "condition": "sunny", "temperature": 21}'
_GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("server"), ["--check-ledger"])
    yield running
    running.close()


@pytest.fixture(scope="module")
def responses(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def messages(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def test_a_response_thinks_and_answers_whole_and_streamed(responses: openai.OpenAI) -> None:
    whole = responses.responses.create(model="demo", input=_SUM, temperature=0)
    with responses.responses.stream(model="demo", input=_SUM, temperature=0) as stream:
        streamed = stream.until_done().get_final_response()
    assert "42" in whole.output_text
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert streamed.output_text == whole.output_text
    assert whole.usage is not None
    assert streamed.usage is not None
    assert 0 < whole.usage.output_tokens_details.reasoning_tokens < whole.usage.output_tokens
    assert streamed.usage.output_tokens_details == whole.usage.output_tokens_details


def test_a_response_calls_a_tool_and_goes_on_with_its_result(responses: openai.OpenAI) -> None:
    first = responses.responses.create(model="demo", input=_WEATHER, tools=[_FUNCTION], temperature=0)
    call = first.output[-1]
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    output: ResponseInputParam = [{"type": "function_call_output", "call_id": call.call_id, "output": _RESULT}]
    kept = responses.responses.create(
        model="demo", input=output, tools=[_FUNCTION], previous_response_id=first.id, temperature=0
    )
    items = cast(ResponseInputParam, [{"role": "user", "content": _WEATHER}, *first.output, *output])
    sent = responses.responses.create(model="demo", input=items, tools=[_FUNCTION], temperature=0)
    assert "21" in kept.output_text
    assert sent.output_text == kept.output_text


def test_a_response_can_be_required_to_call(responses: openai.OpenAI) -> None:
    made = responses.responses.create(
        model="demo",
        input=_WEATHER,
        tools=[_FUNCTION],
        tool_choice="required",
        temperature=0,
        parallel_tool_calls=False,
        max_output_tokens=200,
    )
    assert made.status == "completed"
    call = made.output[-1]
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})


def test_a_message_thinks_if_it_is_to_whole_and_streamed(messages: anthropic.Anthropic) -> None:
    ask: list[MessageParam] = [{"role": "user", "content": _SUM}]
    brief = messages.messages.create(model="demo", max_tokens=400, messages=ask, extra_body=_GREEDY)
    whole = messages.messages.create(model="demo", max_tokens=400, messages=ask, thinking=_THINKING, extra_body=_GREEDY)
    with messages.messages.stream(
        model="demo", max_tokens=400, messages=ask, thinking=_THINKING, extra_body=_GREEDY
    ) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in brief.content] == ["text"]
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert "42" in cast(Any, whole.content[1]).text
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert streamed.usage.output_tokens == whole.usage.output_tokens


def test_thinking_ends_with_its_budget(messages: anthropic.Anthropic) -> None:
    ask: list[MessageParam] = [{"role": "user", "content": _SUM}]
    answer = messages.messages.create(
        model="demo",
        max_tokens=400,
        messages=ask,
        thinking={"type": "enabled", "budget_tokens": 5},
        extra_body=_GREEDY,
    )
    assert answer.usage.output_tokens_details is not None
    # The markers and the white space around them count too.
    assert answer.usage.output_tokens_details.thinking_tokens <= 5 + 4
    assert answer.content[-1].type == "text"


def test_a_message_calls_a_tool_and_goes_on_with_its_result(messages: anthropic.Anthropic) -> None:
    ask: list[MessageParam] = [{"role": "user", "content": _WEATHER}]
    first = messages.messages.create(model="demo", max_tokens=400, messages=ask, tools=[_TOOL], extra_body=_GREEDY)
    call = first.content[-1]
    assert isinstance(call, ToolUseBlock)
    assert (first.stop_reason, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"})
    ask += [
        {"role": "assistant", "content": cast(Any, first.content)},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": _RESULT}]},
    ]
    count = messages.messages.count_tokens(model="demo", messages=ask, tools=[_TOOL])
    second = messages.messages.create(model="demo", max_tokens=400, messages=ask, tools=[_TOOL], extra_body=_GREEDY)
    assert "21" in cast(Any, second.content[-1]).text
    cached = second.usage.cache_read_input_tokens or 0
    assert cached > 0
    assert second.usage.input_tokens + cached == count.input_tokens
