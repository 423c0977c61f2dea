from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam, ToolUseBlock
from hypothesis import given, settings

from hookline.errors import RequestError
from hookline.messages.outputs import FinishReason
from hookline.testkit.fake_serving import MODEL, FakeServing, Reply
from hookline.testkit.in_process import http
from hookline.testkit.splits import cut, fragments
from tests.factories.fake_serving import ChatServing, make_app
from tests.factories.http_server import running_server
from tests.factories.two_answers import whole_and_streamed
from tests.factories.typed_events import read_typed_events

_PATH = "/v1/messages"
_HI: list[MessageParam] = [{"role": "user", "content": "Hi"}]
_TOOLS: list[ToolParam] = [
    {
        "name": "get_weather",
        "description": "weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]
_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
_ALL = f"<think>\nhm\n</think>\n\nLook.\n{_CALL}\n{_CALL}"


@contextmanager
def _connect(*replies: Reply, key: str = "key", **server: Any) -> Iterator[tuple[anthropic.Anthropic, ChatServing]]:
    serving = ChatServing(replies=list(replies) or [Reply()])
    with (
        running_server(make_app(serving, **server)) as url,
        anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=20) as client,
    ):
        yield client, serving


async def _post(serving: ChatServing, status: int = 200, path: str = _PATH, **body: Any) -> Any:
    sent = {"model": MODEL, "messages": _HI, **({"max_tokens": 500} if path == _PATH else {}), **body}
    async with http(make_app(serving)) as client:
        answer = await client.post(path, json=sent)
    assert answer.status_code == status, answer.text
    return answer.json()


async def _stream(serving: ChatServing, **body: Any) -> list[Any]:
    sent = {"model": MODEL, "messages": _HI, "max_tokens": 500, "stream": True, **body}
    async with http(make_app(serving)) as client:
        return read_typed_events(await client.post(_PATH, json=sent))


def _join(events: list[Any]) -> dict[str, Any]:
    """The message that a stream tells, by the rules of the protocol, without ids."""
    first, ping, *inner, delta, stop = events
    assert (first["type"], ping, stop) == ("message_start", {"type": "ping"}, {"type": "message_stop"})
    content: list[dict[str, Any]] = []
    pieces: list[str] = []
    is_open = False
    for event in inner:
        index = event["index"]
        if event["type"] == "content_block_start":
            assert not is_open
            assert index == len(content)
            content.append(dict(event["content_block"]))
            is_open, pieces = True, []
        elif event["type"] == "content_block_stop":
            assert is_open
            assert index == len(content) - 1
            is_open = False
            content[-1]["pieces"] = "".join(pieces)
        else:
            assert event["type"] == "content_block_delta"
            assert index == len(content) - 1
            piece = event["delta"]
            pieces.append(piece.get("text") or piece.get("thinking") or piece.get("partial_json") or "")
    assert not is_open
    assert delta["type"] == "message_delta"
    return {
        "content": [(block["type"], block.get("name"), block["pieces"]) for block in content],
        "ending": delta["delta"],
        "usage": delta["usage"],
    }


def _parts(message: dict[str, Any]) -> dict[str, Any]:
    """A whole message, in the same form."""
    return {
        "content": [
            (block["type"], block.get("name"), block.get("text") or block.get("thinking") or block.get("input"))
            for block in message["content"]
        ],
        "ending": {key: message[key] for key in ("stop_reason", "stop_sequence")},
        "usage": message["usage"],
    }


# --- the official client ---


def test_a_message() -> None:
    with _connect() as (client, serving):
        message = client.messages.create(
            model=MODEL, max_tokens=50, messages=_HI, system="Be brief.", extra_body={"top_k": 5}
        )
    (block,) = message.content
    assert block.type == "text"
    assert block.text == "Hello there."
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", MODEL)
    prompt = "<system>Be brief.\n<user>Hi\n<assistant>"
    assert message.usage.input_tokens == len(prompt) - 2
    assert (message.usage.cache_read_input_tokens, message.usage.output_tokens) == (2, 13)
    params = serving.requests[0].sampling_params
    assert (params.max_new_tokens, params.top_k) == (50, 5)


def test_a_streamed_message_accumulates_as_the_client_does_it() -> None:
    with (
        _connect(Reply(text=_ALL)) as (client, _),
        client.messages.stream(
            model=MODEL,
            max_tokens=500,
            messages=_HI,
            tools=_TOOLS,
            thinking={"type": "enabled", "budget_tokens": 100},
        ) as stream,
    ):
        message = stream.get_final_message()
    thought, text, first, second = message.content
    assert thought.type == "thinking"
    assert (thought.thinking, bool(thought.signature)) == ("hm", True)
    assert text.type == "text"
    assert text.text == "Look."
    assert isinstance(first, ToolUseBlock)
    assert isinstance(second, ToolUseBlock)
    assert (first.name, first.input) == ("get_weather", {"city": "Paris"})
    assert first.id != second.id
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == len("<think>\nhm\n</think>\n\n")


def test_a_round_trip_of_a_tool() -> None:
    with _connect(Reply(text=f"<think>\nhm\n</think>\n\n{_CALL}"), Reply(text="Sunny.")) as (client, serving):
        first = client.messages.create(model=MODEL, max_tokens=500, messages=_HI, tools=_TOOLS)
        call = first.content[-1]
        assert isinstance(call, ToolUseBlock)
        answer: list[MessageParam] = [
            *_HI,
            {"role": "assistant", "content": cast(Any, first.content)},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sun"}]},
        ]
        second = client.messages.create(model=MODEL, max_tokens=500, messages=answer, tools=_TOOLS)
    assert second.content[0].type == "text"
    assert second.content[0].text == "Sunny."
    user, assistant, result = serving.rendered[-1]["messages"]
    assert user["content"] == "Hi"
    assert assistant["reasoning_content"] == "hm"
    assert assistant["tool_calls"] == [
        {"id": call.id, "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    ]
    assert (result["role"], result["tool_call_id"], result["content"]) == ("tool", call.id, "sun")


def test_tokens_are_counted() -> None:
    with _connect() as (client, _):
        count = client.messages.count_tokens(model=MODEL, messages=_HI, system="Be brief.")
    assert count.input_tokens == len("<system>Be brief.\n<user>Hi\n<assistant>")


def test_keys() -> None:
    with _connect(api_key="user-key", key="user-key") as (client, _):
        client.messages.create(model=MODEL, max_tokens=5, messages=_HI)
        bearer = anthropic.Anthropic(base_url=client.base_url, auth_token="user-key", max_retries=0)
        bearer.messages.create(model=MODEL, max_tokens=5, messages=_HI)
        with pytest.raises(anthropic.AuthenticationError, match="not valid"):
            client.with_options(api_key="other").messages.create(model=MODEL, max_tokens=5, messages=_HI)


def test_errors_are_raised_as_the_clients_own() -> None:
    with _connect() as (client, _):
        with pytest.raises(anthropic.NotFoundError) as missing:
            client.messages.create(model="other", max_tokens=5, messages=_HI)
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            client.messages.create(model=MODEL, max_tokens=0, messages=_HI)
    assert missing.value.type == "not_found_error"
    assert missing.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": missing.value.body["error"]["message"]},  # type: ignore[index]
    }


def test_an_error_in_a_stream_is_raised_where_it_happened() -> None:
    with _connect(Reply(break_after=2, failure=RequestError("the engine ended"))) as (client, _):
        texts: list[str] = []

        def read() -> None:
            with client.messages.stream(model=MODEL, max_tokens=50, messages=_HI) as stream:
                texts.extend(stream.text_stream)

        with pytest.raises(anthropic.APIError, match="the engine ended"):
            read()
    assert "".join(texts) == "He"


# --- whole and streamed ---


_PARTS = fragments("a", "é", "<think>", "\nhm\n", "</think>", "\n\n", _CALL, "<tool_call>", "{", '"name"', "Look. ")


@settings(deadline=None)
@given(cut(_PARTS))
def test_whole_and_streamed_messages_agree(case: tuple[str, list[str]]) -> None:
    body = {"model": MODEL, "messages": _HI, "max_tokens": 500, "tools": _TOOLS}
    message, events = asyncio.run(whole_and_streamed(_PATH, *case, body))
    whole, streamed = _parts(message), _join(events)
    assert streamed["ending"] == whole["ending"]
    assert streamed["usage"] == whole["usage"]
    assert len(streamed["content"]) == len(whole["content"])
    for (kind, name, told), (whole_kind, whole_name, content) in zip(
        streamed["content"], whole["content"], strict=True
    ):
        assert (kind, name) == (whole_kind, whole_name)
        assert (json.loads(told) if kind == "tool_use" else told) == content


async def test_a_call_that_was_cut_off_has_what_came_of_it() -> None:
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par'
    tools: dict[str, Any] = {"tools": _TOOLS, "tool_choice": {"type": "any"}}
    reply = Reply(text=text, finish=FinishReason(type="length"))
    message = await _post(ChatServing(replies=[reply]), **tools)
    assert (message["stop_reason"], message["content"][0]["input"]) == ("max_tokens", {"city": "Par"})
    joined = _join(await _stream(ChatServing(replies=[reply]), **tools))
    assert joined["content"] == [("tool_use", "get_weather", '{"city": "Par')]
    assert joined["ending"]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_tokens"), ("stop", "end_turn"), ("abort", "pause_turn")]
)
async def test_why_a_message_ends(finish: str, reason: str) -> None:
    reply = Reply(finish=FinishReason(type=finish, status_code=499 if finish == "abort" else 200))
    assert (await _post(ChatServing(replies=[reply])))["stop_reason"] == reason


async def test_the_stop_sequence_that_was_met_is_told() -> None:
    message = await _post(ChatServing(), stop_sequences=["there"])
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "there")
    assert message["content"][0]["text"] == "Hello "


# --- what reaches the engine ---


@pytest.mark.parametrize(
    ("thinking", "is_on"),
    [(None, False), ({"type": "disabled"}, False), ({"type": "adaptive"}, True)],
)
async def test_thinking_switches_the_template(thinking: Any, is_on: bool) -> None:
    serving = ChatServing()
    await _post(serving, thinking=thinking)
    assert serving.rendered[0]["template_kwargs"] == {"enable_thinking": is_on, "thinking": is_on}


async def test_a_budget_of_thinking_bounds_the_reasoning() -> None:
    serving = ChatServing()
    await _post(serving, thinking={"type": "enabled", "budget_tokens": 100})
    assert serving.requests[0].sampling_params.max_thinking_tokens == 100


async def test_a_budget_that_nothing_heeds_is_reported() -> None:
    body = {"model": MODEL, "max_tokens": 500, "messages": _HI, "thinking": {"type": "enabled", "budget_tokens": 100}}
    async with http(make_app(FakeServing())) as client:
        answer = await client.post(_PATH, json={**body, "unheard_of": 1})
    assert answer.headers["x-hookline-ignored-fields"] == "unheard_of, thinking.budget_tokens"
    async with http(make_app(FakeServing(), strict_requests=True)) as client:
        assert (await client.post(_PATH, json=body)).status_code == 400


@pytest.mark.parametrize(
    ("choice", "is_constrained", "num_calls"),
    [
        ({"type": "auto"}, False, 2),
        ({"type": "auto", "disable_parallel_tool_use": True}, False, 1),
        ({"type": "any"}, True, 2),
        ({"type": "any", "disable_parallel_tool_use": True}, True, 1),
        ({"type": "tool", "name": "get_weather"}, True, 1),
        ({"type": "none"}, False, 0),
    ],
)
async def test_choices_of_tools(choice: dict[str, Any], is_constrained: bool, num_calls: int) -> None:
    serving = ChatServing(replies=[Reply(text=f"{_CALL}\n{_CALL}")])
    message = await _post(serving, tools=_TOOLS, tool_choice=choice)
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    assert len(calls) == num_calls
    assert all(call["input"] == {"city": "Paris"} for call in calls)
    assert (serving.requests[0].sampling_params.structural_tag is not None) is is_constrained


async def test_a_last_message_of_the_assistant_is_continued() -> None:
    serving = ChatServing()
    await _post(serving, messages=[*_HI, {"role": "assistant", "content": "The answer is ("}])
    assert serving.rendered[0]["continue_final_message"] is True


async def test_a_schema_constrains_the_output() -> None:
    serving = ChatServing(replies=[Reply(text="{}")])
    await _post(serving, output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}})
    assert serving.requests[0].sampling_params.json_schema == '{"type": "object"}'


_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
_USE = {"type": "tool_use", "id": "a", "name": "f", "input": {}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [_IMAGE]}]}, "messages[0].content[0] is of type 'image'"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content must be"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "b"}]}]},
            "belongs to no tool_use",
        ),
        ({"messages": [{"role": "assistant", "content": [_USE]}]}, "need tool_result"),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [_USE]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [_IMAGE]}]},
                ]
            },
            "messages[1].content[0].content[0] is of type 'image'",
        ),
        ({"system": [_IMAGE]}, "system[0]"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "only Anthropic's servers"),
        ({"tools": [{"name": "x"}]}, "input_schema"),
        ({"tools": [*_TOOLS, *_TOOLS]}, "of another tool"),
        ({"tools": _TOOLS, "tool_choice": {"type": "tool", "name": "nope"}}, "not among the tools"),
        ({"tools": _TOOLS, "tool_choice": {"type": "tool"}}, "'tool' with a name"),
        ({"tool_choice": {"type": "any"}}, "tool_choice needs tools"),
        ({"thinking": {"type": "enabled"}}, "budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 500}}, "less than max_tokens"),
        ({"thinking": {"type": "sometimes"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
    ],
)
async def test_bad_requests_say_what_is_wrong(body: dict[str, Any], message: str) -> None:
    serving = ChatServing()
    answer = await _post(serving, 400, **body)
    assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")
    assert message in answer["error"]["message"]
    assert not serving.requests
