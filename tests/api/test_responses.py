from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import openai
import pytest
from hypothesis import given, settings
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall, ResponseInputParam

from hookline.errors import RequestError
from hookline.messages.outputs import FinishReason
from hookline.testkit.fake_serving import MODEL, Reply
from hookline.testkit.in_process import http
from hookline.testkit.splits import cut, fragments
from tests.factories.fake_serving import ChatServing, make_app
from tests.factories.http_server import running_server
from tests.factories.two_answers import whole_and_streamed
from tests.factories.typed_events import read_typed_events

_PATH = "/v1/responses"
_TOOL: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
_ALL = f"<think>\nhm\n</think>\n\nLook.\n{_CALL}\n{_CALL}"


@contextmanager
def _connect(*replies: Reply) -> Iterator[tuple[openai.OpenAI, ChatServing]]:
    serving = ChatServing(replies=list(replies) or [Reply()])
    with (
        running_server(make_app(serving)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=20) as client,
    ):
        yield client, serving


async def _post(serving: ChatServing, status: int = 200, **body: Any) -> Any:
    async with http(make_app(serving)) as client:
        answer = await client.post(_PATH, json={"input": "Hi", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


async def _stream(serving: ChatServing, **body: Any) -> list[Any]:
    async with http(make_app(serving)) as client:
        return read_typed_events(await client.post(_PATH, json={"input": "Hi", "stream": True, **body}))


def _join(events: list[Any]) -> dict[str, Any]:
    """The response that a stream tells, put together from its deltas by the rules of the protocol."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    created, begun, *inner, last = events
    assert (created["type"], begun["type"]) == ("response.created", "response.in_progress")
    assert created["response"]["status"] == begun["response"]["status"] == "in_progress"
    items: list[dict[str, Any]] = []
    text, is_open = "", False
    for event in inner:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert not is_open
            assert event["output_index"] == len(items)
            items.append(event["item"])
            text, is_open = "", True
            continue
        assert is_open
        assert event["output_index"] == len(items) - 1
        assert event.get("item_id", items[-1]["id"]) == items[-1]["id"]
        if kind.endswith(".delta"):
            text += event["delta"]
        elif kind.endswith(("_text.done", "arguments.done")):
            assert event.get("text", event.get("arguments")) == text
        elif kind == "content_part.done":
            assert event["part"]["text"] == text
            items[-1]["content"] = [event["part"]]
        elif kind == "output_item.done":
            assert event["item"]["id"] == items[-1]["id"]
            items[-1] = event["item"]
            is_open = False
    assert not is_open
    response: dict[str, Any] = last["response"]
    assert last["type"] == f"response.{response['status']}"
    assert response["output"] == items
    assert response["id"] == created["response"]["id"]
    return response


def _plain(response: dict[str, Any]) -> dict[str, Any]:
    """The response without what differs from call to call."""
    items = [{key: value for key, value in item.items() if key not in ("id", "call_id")} for item in response["output"]]
    return {**response, "output": items, "id": "", "created_at": 0, "completed_at": 0}


# --- the official client ---


def test_a_response() -> None:
    with _connect() as (client, serving):
        response = client.responses.create(
            model=MODEL, input="Hi", instructions="Be brief.", max_output_tokens=50, metadata={"a": "b"}
        )
    assert response.output_text == "Hello there."
    assert (response.status, response.model, response.metadata) == ("completed", MODEL, {"a": "b"})
    assert response.usage is not None
    assert response.usage.input_tokens == len("<system>Be brief.\n<user>Hi\n<assistant>")
    assert (response.usage.output_tokens, response.usage.input_tokens_details.cached_tokens) == (13, 2)
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    (request,) = serving.requests
    assert (request.rid, request.sampling_params.max_new_tokens) == (response.id, 50)


def test_a_streamed_response_accumulates_as_the_client_does_it() -> None:
    with (
        _connect(Reply(text=_ALL)) as (client, _),
        client.responses.stream(model=MODEL, input="Hi", tools=[_TOOL]) as stream,
    ):
        kinds = [event.type for event in stream]
        response = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
    assert response.output_text == "Look."
    first, second = (item for item in response.output if isinstance(item, ResponseFunctionToolCall))
    assert (first.name, json.loads(first.arguments)) == ("get_weather", {"city": "Paris"})
    assert first.call_id != second.call_id
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens == len("<think>\nhm\n</think>\n\n")


def test_a_round_trip_of_a_tool() -> None:
    with _connect(Reply(text=f"<think>\nhm\n</think>\n\n{_CALL}"), Reply(text="Sunny.")) as (client, serving):
        first = client.responses.create(model=MODEL, input="Weather?", tools=[_TOOL])
        call = first.output[-1]
        assert isinstance(call, ResponseFunctionToolCall)
        items = cast(ResponseInputParam, [{"role": "user", "content": "Weather?"}, *first.output])
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": "sun"})
        second = client.responses.create(model=MODEL, input=items, tools=[_TOOL])
    assert second.output_text == "Sunny."
    user, assistant, result = serving.rendered[-1]["messages"]
    assert user["content"] == "Weather?"
    assert assistant["reasoning_content"] == "hm"
    assert assistant["tool_calls"] == [
        {"id": call.call_id, "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    ]
    assert (result["role"], result["tool_call_id"], result["content"]) == ("tool", call.call_id, "sun")


def test_a_conversation_goes_on_from_a_stored_response() -> None:
    with _connect(Reply(text=_CALL), Reply(text="Sunny."), Reply(text="Bye.")) as (client, serving):
        first = client.responses.create(model=MODEL, input="Weather?", tools=[_TOOL], instructions="Be brief.")
        call = first.output[-1]
        assert isinstance(call, ResponseFunctionToolCall)
        output: ResponseInputParam = [{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}]
        second = client.responses.create(
            model=MODEL, input=output, tools=[_TOOL], previous_response_id=first.id, stream=True
        )
        last = list(second)[-1]
        assert last.type == "response.completed"
        second_id = last.response.id
        third = client.responses.create(model=MODEL, input="Thanks.", previous_response_id=second_id)
    roles = [(message["role"], message["content"]) for message in serving.rendered[-1]["messages"]]
    # Instructions are those of the request alone.
    assert roles == [
        ("user", "Weather?"),
        ("assistant", ""),
        ("tool", "sun"),
        ("assistant", "Sunny."),
        ("user", "Thanks."),
    ]
    assert third.previous_response_id == second_id


def test_stored_responses_are_given_and_forgotten() -> None:
    with _connect() as (client, _):
        made = client.responses.create(model=MODEL, input="Hi")
        assert client.responses.retrieve(made.id) == made
        with pytest.raises(openai.BadRequestError, match="background"):
            client.responses.cancel(made.id)
        client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError, match="no response"):
            client.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model=MODEL, input="Hi", previous_response_id=made.id)
        unkept = client.responses.create(model=MODEL, input="Hi", store=False)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(unkept.id)
    assert caught.value.code == "previous_response_not_found"


def test_an_error_in_a_stream_is_told_where_it_happened() -> None:
    with _connect(Reply(break_after=2, failure=RequestError("the engine ended"))) as (client, _):
        events = list(client.responses.create(model=MODEL, input="Hi", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "He"
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert (last.response.status, last.response.error.message) == ("failed", "the engine ended")


# --- whole and streamed ---


_PARTS = fragments("a", "é", "<think>", "\nhm\n", "</think>", "\n\n", _CALL, "<tool_call>", "{", '"name"', "Look. ")


@settings(deadline=None)
@given(cut(_PARTS))
def test_whole_and_streamed_responses_agree(case: tuple[str, list[str]]) -> None:
    body = {"input": "Hi", "tools": [_TOOL], "include": ["message.output_text.logprobs"]}
    whole, events = asyncio.run(whole_and_streamed(_PATH, *case, body))
    assert _plain(_join(events)) == _plain(whole)


async def test_a_response_that_was_cut_off_says_so() -> None:
    reply = Reply(
        text='<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par', finish=FinishReason(type="length")
    )
    wish: dict[str, Any] = {"tools": [_TOOL], "tool_choice": "required"}
    response = await _post(ChatServing(replies=[reply]), **wish)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    (item,) = response["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"city": "Par')
    assert _plain(_join(await _stream(ChatServing(replies=[reply]), **wish))) == _plain(response)


async def test_a_call_that_was_cut_off_does_not_spoil_the_conversation() -> None:
    cut_off = Reply(
        text='<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par', finish=FinishReason(type="length")
    )
    serving = ChatServing(replies=[cut_off, Reply()])
    async with http(make_app(serving)) as client:
        body = {"input": "Weather?", "tools": [_TOOL], "tool_choice": "required"}
        first = (await client.post(_PATH, json=body)).json()
        second = await client.post(_PATH, json={"input": "Again?", "previous_response_id": first["id"]})
    assert second.status_code == 200, second.text
    assert [message["content"] for message in serving.rendered[-1]["messages"]] == ["Weather?", "Again?"]


async def test_log_probabilities_come_with_the_text() -> None:
    response = await _post(ChatServing(replies=[Reply(text="<think>hm</think>é")]), top_logprobs=1)
    (part,) = response["output"][-1]["content"]
    told = b"".join(bytes(entry["bytes"]) for entry in part["logprobs"])
    assert told == "</think>é".encode()
    assert all(len(entry["top_logprobs"]) == 1 for entry in part["logprobs"])


# --- what reaches the engine ---


_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("text_format", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "name": "x", "schema": _SCHEMA, "strict": True}, _SCHEMA),
    ],
)
async def test_formats_become_schemas(text_format: dict[str, Any], schema: dict[str, Any] | None) -> None:
    serving = ChatServing(replies=[Reply(text="{}")])
    response = await _post(serving, text={"format": text_format})
    source = serving.requests[0].sampling_params.json_schema
    assert (None if source is None else json.loads(source)) == schema
    assert response["text"]["format"] == text_format


@pytest.mark.parametrize(
    ("wish", "is_constrained", "num_calls"),
    [
        ({}, False, 2),
        ({"parallel_tool_calls": False}, False, 1),
        ({"tool_choice": "required"}, True, 2),
        ({"tool_choice": {"type": "function", "name": "get_weather"}}, True, 1),
        ({"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"name": "get_weather"}]}}, True, 2),
        ({"tool_choice": "none"}, False, 0),
    ],
)
async def test_choices_of_tools(wish: dict[str, Any], is_constrained: bool, num_calls: int) -> None:
    serving = ChatServing(replies=[Reply(text=f"{_CALL}\n{_CALL}")])
    response = await _post(serving, tools=[_TOOL], **wish)
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    assert [json.loads(call["arguments"]) for call in calls] == [{"city": "Paris"}] * num_calls
    assert (serving.requests[0].sampling_params.structural_tag is not None) is is_constrained


async def test_effort_reaches_the_template() -> None:
    serving = ChatServing()
    await _post(serving, reasoning={"effort": "none"})
    await _post(serving, reasoning={"effort": "high"}, chat_template_kwargs={"x": 1})
    first, second = (rendered["template_kwargs"] for rendered in serving.rendered)
    assert first == {"reasoning_effort": "none", "enable_thinking": False, "thinking": False}
    assert second == {"reasoning_effort": "high", "x": 1}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "x", "name": "f", "arguments": "{"}]}, "input"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"text": {"format": {"type": "xml"}}}, "text"),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [_TOOL, _TOOL]}, "tools"),
        ({"tools": [_TOOL], "tool_choice": {"type": "function", "name": "nope"}}, "tool_choice"),
        ({"tools": [_TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"previous_response_id": "resp_0"}, "previous_response_id"),
    ],
)
async def test_bad_requests_name_the_field(body: dict[str, Any], param: str) -> None:
    serving = ChatServing()
    error = (await _post(serving, 400, **body))["error"]
    assert error["param"] == param, error
    assert not serving.requests


async def test_an_image_is_refused_clearly() -> None:
    items = [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]
    error = (await _post(ChatServing(), 400, input=items))["error"]
    assert (error["code"], "text only" in error["message"]) == ("unsupported_content", True)
