from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from hookline.interfaces.api import Chunk, GenerateRequest
from hookline.messages.outputs import FinishReason, RequestStats, TokenLogprob
from hookline.testkit.fake_serving import ADAPTER, END_ID, MODEL, FakeServing, Reply
from hookline.testkit.splits import all_ways
from tests.factories.chat_answers import CALLS, TOOLS, chat, join_choice, stream_chat
from tests.factories.fake_serving import ChatServing


async def test_a_chat_answers_with_one_message() -> None:
    serving = ChatServing()
    answer = await chat(serving, model=MODEL)
    assert answer.pop("created") > 0
    assert answer.pop("id") == serving.requests[0].rid
    assert serving.requests[0].rid is not None
    assert serving.requests[0].rid.startswith("chatcmpl-")
    prompt = "<user>Hi\n<assistant>"
    assert answer == {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello there.",
                    "reasoning_content": None,
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
                "matched_stop": END_ID,
            }
        ],
        "usage": {
            "prompt_tokens": len(prompt),
            "completion_tokens": 13,
            "total_tokens": len(prompt) + 13,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    (request,) = serving.requests
    assert bytes(request.input_ids or []) == prompt.encode()
    assert request.sampling_params.max_new_tokens is None, "up to the end of the context"


async def test_a_stream_gives_role_then_deltas_then_the_finish_reason() -> None:
    serving = ChatServing(replies=[Reply(pieces=["Hel", "lo", ""])])
    events = await stream_chat(serving)
    assert {(event["object"], event["model"], event["id"]) for event in events} == {
        ("chat.completion.chunk", MODEL, serving.requests[0].rid)
    }
    assert [event["choices"][0]["delta"] for event in events] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, None, "stop"]
    assert all("usage" not in event for event in events)


async def test_usage_comes_last_where_asked_for() -> None:
    serving = ChatServing(replies=[Reply(text="ab"), Reply(text="c")])
    events = await stream_chat(serving, n=2, stream_options={"include_usage": True})
    assert all(event["usage"] is None for event in events[:-1])
    assert events[-1]["choices"] == []
    # The prompt counts once, the ending token of each choice too.
    assert events[-1]["usage"] == {
        "prompt_tokens": 20,
        "completion_tokens": 5,
        "total_tokens": 25,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    running = await stream_chat(ChatServing(), stream_options={"continuous_usage_stats": True})
    counts = [event["usage"]["completion_tokens"] for event in running]
    assert counts == sorted(counts)
    assert counts[-1] == 13


async def test_all_sampling_fields_reach_the_sampler() -> None:
    serving = ChatServing()
    fields: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "stop": ["x", "y"],
        "seed": 3,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {"5": -100},
        "top_k": 7,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "stop_token_ids": [9],
        "stop_regex": "a+",
        "ignore_eos": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "no_stop_trim": True,
        "regex": "[ab]+",
        "stream_interval": 4,
        "logits_processors": {"p": {}},
    }
    await chat(serving, **fields, min_tokens=1, max_tokens=99, max_completion_tokens=40)
    params = serving.requests[0].sampling_params
    expected = {**fields, "stop": ("x", "y"), "stop_token_ids": (9,), "stop_regex": ("a+",), "logit_bias": {5: -100.0}}
    assert {name: getattr(params, name) for name in fields} == expected
    assert (params.min_new_tokens, params.max_new_tokens) == (1, 40)


async def test_routing_fields_reach_the_engine() -> None:
    serving = ChatServing()
    answer = await chat(serving, model=ADAPTER, rid="mine", priority=3, cache_salt="s", extra_key="k")
    (request,) = serving.requests
    assert (request.model, request.rid, request.priority) == (ADAPTER, "mine", 3)
    assert (request.cache_salt, request.extra_key) == ("s", "k")
    assert (answer["id"], answer["model"]) == ("mine", ADAPTER)


async def test_messages_and_template_arguments_reach_the_template() -> None:
    serving = ChatServing()
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "So"},
    ]
    await chat(
        serving,
        messages=messages,
        continue_final_message=True,
        chat_template_kwargs={"enable_thinking": False},
        reasoning_effort="low",
        tools=TOOLS,
    )
    (rendered,) = serving.rendered
    assert [message["role"] for message in rendered["messages"]] == ["system", "user", "assistant"]
    assert rendered["template_kwargs"] == {"reasoning_effort": "low", "enable_thinking": False}
    assert (rendered["continue_final_message"], rendered["add_generation_prompt"]) == (True, False)
    assert rendered["tools"] == TOOLS


# --- reasoning ---


@pytest.mark.parametrize(
    ("suffix", "text"), [("", "<think>\nhm\n</think>\n\nanswer"), ("<think>\n", "hm\n</think>\n\nanswer")]
)
async def test_reasoning_is_split_off_the_same_in_streams(suffix: str, text: str) -> None:
    (choice,) = (await chat(ChatServing(replies=[Reply(text=text)], prompt_suffix=suffix)))["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("hm", "answer")
    for pieces in all_ways(text):
        events = await stream_chat(ChatServing(replies=[Reply(pieces=pieces)], prompt_suffix=suffix))
        message = join_choice(events)["message"]
        assert (message["reasoning_content"], message["content"]) == ("hm", "answer")


async def test_reasoning_stays_in_the_content_if_it_is_not_to_be_separated() -> None:
    text = "<think>hm</think>answer"
    (choice,) = (await chat(ChatServing(replies=[Reply(text=text)]), separate_reasoning=False))["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == (None, text)


async def test_a_grammar_waits_for_the_end_of_the_reasoning() -> None:
    serving = ChatServing(replies=[Reply(text='hm\n</think>\n\n{"a": 1}')], prompt_suffix="<think>\n")
    (choice,) = (await chat(serving, response_format={"type": "json_object"}))["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("hm", '{"a": 1}')
    (request,) = serving.requests
    assert request.sampling_params.json_schema == '{"type": "object"}'
    assert request.reasoning is not None
    assert request.reasoning.prompt_tail.endswith("<think>\n")


async def test_reasoning_is_bounded_by_the_request_or_by_its_effort() -> None:
    serving = ChatServing()
    for body in (
        {"max_thinking_tokens": 7},
        {"max_thinking_tokens": 7, "reasoning_effort": "none"},
        {"reasoning_effort": "none"},
        {"reasoning_effort": "high"},
        {},
    ):
        await chat(serving, **body)
    bounds = [request.sampling_params.max_thinking_tokens for request in serving.requests]
    assert bounds == [7, 7, 0, None, None]
    assert serving.rendered[2]["template_kwargs"] == {
        "reasoning_effort": "none",
        "enable_thinking": False,
        "thinking": False,
    }


async def test_an_effort_bounds_nothing_where_nobody_knows_the_reasoning() -> None:
    serving = FakeServing()
    await chat(serving, reasoning_effort="none")
    assert serving.requests[0].sampling_params.max_thinking_tokens is None


# --- response_format ---


_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("body", "schema"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, {"type": "object"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}}}, _SCHEMA),
        ({"json_schema": _SCHEMA}, _SCHEMA),
        ({"json_schema": json.dumps(_SCHEMA)}, _SCHEMA),
    ],
)
async def test_formats_become_schemas(body: dict[str, Any], schema: dict[str, Any] | None) -> None:
    serving = ChatServing()
    await chat(serving, **body)
    source = serving.requests[0].sampling_params.json_schema
    assert (None if source is None else json.loads(source)) == schema


# --- logprobs ---


@pytest.mark.parametrize("text", ["ok é", "<think>a</think>b", CALLS])
async def test_every_token_has_its_log_probability_in_answers_and_streams(text: str) -> None:
    body: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "tools": TOOLS}
    (choice,) = (await chat(ChatServing(replies=[Reply(text=text)]), **body))["choices"]
    entries = choice["logprobs"]["content"]
    assert [byte for entry in entries[:-1] for byte in entry["bytes"]] == list(text.encode())
    assert [len(entry["top_logprobs"]) for entry in entries] == [2] * len(entries)
    streamed = join_choice(await stream_chat(ChatServing(replies=[Reply(text=text)]), **body))
    assert streamed["logprobs"] == entries


async def test_half_a_character_is_told_by_its_bytes() -> None:
    (choice,) = (await chat(ChatServing(replies=[Reply(text="é")]), logprobs=True))["choices"]
    first, second, _ = choice["logprobs"]["content"]
    assert (first["token"], first["bytes"], first["top_logprobs"]) == ("\ufffd", [0xC3], [])
    assert second["bytes"] == [0xA9]


class _Impossible(ChatServing):
    """Takes a token of probability zero."""

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk]:
        yield Chunk(
            rid="r",
            index=0,
            text="a",
            token_ids=[97],
            finish_reason=FinishReason(type="length"),
            stats=RequestStats(1, 0, 1),
            output_logprobs=[TokenLogprob(float("-inf"), 97, [(98, float("-inf"))])],
        )


async def test_probability_zero_is_a_number() -> None:
    (choice,) = (await chat(_Impossible(), logprobs=True, top_logprobs=1))["choices"]
    (entry,) = choice["logprobs"]["content"]
    assert (entry["logprob"], entry["top_logprobs"][0]["logprob"]) == (-9999.0, -9999.0)


# --- n, endings, errors ---


async def test_choices_are_parsed_apart() -> None:
    replies = [Reply(text="<think>a</think>b"), Reply(text=CALLS), Reply(text="c", finish=FinishReason(type="length"))]
    answer = await chat(ChatServing(replies=replies), n=3, tools=TOOLS)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "tool_calls", "length"]
    events = await stream_chat(ChatServing(replies=replies), n=3, tools=TOOLS)
    for choice in answer["choices"]:
        joined = join_choice(events, choice["index"])
        assert joined["message"]["content"] == (choice["message"]["content"] or "")
        assert joined["message"]["reasoning_content"] == (choice["message"]["reasoning_content"] or "")
        assert joined["finish_reason"] == choice["finish_reason"]


async def test_the_stop_that_was_met_is_told() -> None:
    (choice,) = (await chat(ChatServing(), stop="there"))["choices"]
    assert (choice["message"]["content"], choice["matched_stop"]) == ("Hello ", "there")
    events = await stream_chat(ChatServing(), stop="there")
    assert join_choice(events)["message"]["content"] == "Hello "
    assert events[-1]["choices"][0]["matched_stop"] == "there"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "json_schema": {}}, "json_schema"),
        ({"response_format": {"type": "json_object"}, "regex": "a"}, "regex"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{"type": "retrieval"}]}, "tools"),
        ({"tools": [TOOLS[1], TOOLS[1]]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "required", "regex": "a"}, "tool_choice"),
        ({"functions": []}, "functions"),
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
    ],
)
async def test_bad_chats_name_the_field(body: dict[str, Any], param: str) -> None:
    serving = ChatServing()
    error = (await chat(serving, 400, **body))["error"]
    assert error["param"] == param, error
    assert not serving.requests


async def test_an_image_is_refused_clearly() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    error = (await chat(ChatServing(), 400, messages=[{"role": "user", "content": [image]}]))["error"]
    assert error["code"] == "unsupported_content"
    assert "text only" in error["message"]


async def test_a_model_that_is_not_served_is_a_404() -> None:
    error = (await chat(ChatServing(), 404, model="gpt-9"))["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


async def test_a_choice_that_was_aborted_on_purpose_ends_with_abort() -> None:
    finish = FinishReason(type="abort", message="aborted", status_code=499)
    (choice,) = (await chat(ChatServing(replies=[Reply(text="so far", finish=finish)])))["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("so far", "abort")
