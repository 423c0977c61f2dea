from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from hookline.formats.wire import MAX_CALLS
from hookline.interfaces.api import Chunk, GenerateRequest
from hookline.messages.outputs import FinishReason, RequestStats, TokenLogprob
from hookline.testkit.api_calls import read_events
from hookline.testkit.fake_serving import ADAPTER, END_ID, MODEL, FakeServing, Reply, refuse
from hookline.testkit.in_process import http
from hookline.testkit.splits import all_ways
from tests.factories.fake_serving import ChatServing, make_app

_PATH = "/v1/chat/completions"
_HI = [{"role": "user", "content": "Hi"}]
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
_CALLS = (
    "Let me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


async def _chat(serving: FakeServing, status: int = 200, **body: Any) -> Any:
    async with http(make_app(serving)) as client:
        answer = await client.post(_PATH, json={"messages": _HI, **body})
    assert answer.status_code == status, answer.text
    return answer.json()


async def _stream(serving: FakeServing, **body: Any) -> list[Any]:
    async with http(make_app(serving)) as client:
        return read_events(await client.post(_PATH, json={"messages": _HI, "stream": True, **body}))


def _join(events: list[Any], index: int = 0) -> dict[str, Any]:
    """A choice's deltas put together as a client does it, in the shape of a whole choice."""
    message: dict[str, Any] = {"content": "", "reasoning_content": ""}
    calls: list[dict[str, Any]] = []
    logprobs: list[Any] = []
    finish: dict[str, Any] = {}
    for event in events:
        for choice in event["choices"]:
            if choice["index"] != index:
                continue
            assert not finish, "nothing comes after the finish reason"
            delta = choice["delta"]
            for key in ("content", "reasoning_content"):
                message[key] += delta.get(key) or ""
            for piece in delta.get("tool_calls", ()):
                if "id" in piece:
                    assert piece["index"] == len(calls)
                    calls.append({"type": piece["type"], "id": piece["id"], "function": dict(piece["function"])})
                else:
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
            logprobs += (choice["logprobs"] or {}).get("content", [])
            if choice["finish_reason"] is not None:
                finish = choice
    return {"message": message, "calls": calls, "logprobs": logprobs, "finish_reason": finish.get("finish_reason")}


async def test_a_chat_answers_with_one_message() -> None:
    serving = ChatServing()
    answer = await _chat(serving, model=MODEL)
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
    events = await _stream(serving)
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
    events = await _stream(serving, n=2, stream_options={"include_usage": True})
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
    running = await _stream(ChatServing(), stream_options={"continuous_usage_stats": True})
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
    await _chat(serving, **fields, min_tokens=1, max_tokens=99, max_completion_tokens=40)
    params = serving.requests[0].sampling_params
    expected = {**fields, "stop": ("x", "y"), "stop_token_ids": (9,), "stop_regex": ("a+",), "logit_bias": {5: -100.0}}
    assert {name: getattr(params, name) for name in fields} == expected
    assert (params.min_new_tokens, params.max_new_tokens) == (1, 40)


async def test_routing_fields_reach_the_engine() -> None:
    serving = ChatServing()
    answer = await _chat(serving, model=ADAPTER, rid="mine", priority=3, cache_salt="s", extra_key="k")
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
    await _chat(
        serving,
        messages=messages,
        continue_final_message=True,
        chat_template_kwargs={"enable_thinking": False},
        reasoning_effort="low",
        tools=_TOOLS,
    )
    (rendered,) = serving.rendered
    assert [message["role"] for message in rendered["messages"]] == ["system", "user", "assistant"]
    assert rendered["template_kwargs"] == {"reasoning_effort": "low", "enable_thinking": False}
    assert (rendered["continue_final_message"], rendered["add_generation_prompt"]) == (True, False)
    assert rendered["tools"] == _TOOLS


# --- reasoning ---


@pytest.mark.parametrize(
    ("suffix", "text"), [("", "<think>\nhm\n</think>\n\nanswer"), ("<think>\n", "hm\n</think>\n\nanswer")]
)
async def test_reasoning_is_split_off_the_same_in_streams(suffix: str, text: str) -> None:
    (choice,) = (await _chat(ChatServing(replies=[Reply(text=text)], prompt_suffix=suffix)))["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("hm", "answer")
    for pieces in all_ways(text):
        events = await _stream(ChatServing(replies=[Reply(pieces=pieces)], prompt_suffix=suffix))
        message = _join(events)["message"]
        assert (message["reasoning_content"], message["content"]) == ("hm", "answer")


async def test_reasoning_stays_in_the_content_if_it_is_not_to_be_separated() -> None:
    text = "<think>hm</think>answer"
    (choice,) = (await _chat(ChatServing(replies=[Reply(text=text)]), separate_reasoning=False))["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == (None, text)


async def test_a_grammar_waits_for_the_end_of_the_reasoning() -> None:
    serving = ChatServing(replies=[Reply(text='hm\n</think>\n\n{"a": 1}')], prompt_suffix="<think>\n")
    (choice,) = (await _chat(serving, response_format={"type": "json_object"}))["choices"]
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
        await _chat(serving, **body)
    bounds = [request.sampling_params.max_thinking_tokens for request in serving.requests]
    assert bounds == [7, 7, 0, None, None]
    assert serving.rendered[2]["template_kwargs"] == {
        "reasoning_effort": "none",
        "enable_thinking": False,
        "thinking": False,
    }


async def test_an_effort_bounds_nothing_where_nobody_knows_the_reasoning() -> None:
    serving = FakeServing()
    await _chat(serving, reasoning_effort="none")
    assert serving.requests[0].sampling_params.max_thinking_tokens is None


# --- tools ---


async def test_tool_calls_arrive_split_the_same_in_streams() -> None:
    (choice,) = (await _chat(ChatServing(replies=[Reply(text=_CALLS)]), tools=_TOOLS))["choices"]
    message = choice["message"]
    assert message["content"] == "Let me look."
    assert choice["finish_reason"] == "tool_calls"
    functions = [call["function"] for call in message["tool_calls"]]
    assert functions == [
        {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        {"name": "now", "arguments": "{}"},
    ]
    ids = {call["id"] for call in message["tool_calls"]}
    assert len(ids) == 2
    assert all(ident.startswith("call_") and len(ident) == 29 for ident in ids)
    for pieces in all_ways(_CALLS):
        joined = _join(await _stream(ChatServing(replies=[Reply(pieces=pieces)]), tools=_TOOLS))
        assert joined["message"]["content"] == "Let me look."
        assert [call["function"] for call in joined["calls"]] == functions
        assert joined["finish_reason"] == "tool_calls"


async def test_a_message_of_calls_alone_has_no_content() -> None:
    text = _CALLS.partition("\n")[2]
    (choice,) = (await _chat(ChatServing(replies=[Reply(text=text)]), tools=_TOOLS))["choices"]
    assert choice["message"]["content"] is None


async def test_reasoning_then_calls() -> None:
    text = f"<think>which city?</think>\n{_CALLS}"
    (choice,) = (await _chat(ChatServing(replies=[Reply(text=text)]), tools=_TOOLS))["choices"]
    assert choice["message"]["reasoning_content"] == "which city?"
    assert choice["message"]["content"] == "Let me look."
    assert len(choice["message"]["tool_calls"]) == 2


@pytest.mark.parametrize("wish", [{}, {"tools": _TOOLS, "tool_choice": "none"}, {"tools": []}])
async def test_calls_are_text_if_tools_are_not_wanted(wish: dict[str, Any]) -> None:
    serving = ChatServing(replies=[Reply(text=_CALLS)])
    (choice,) = (await _chat(serving, **wish))["choices"]
    assert choice["message"]["content"] == _CALLS
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    assert serving.rendered[0]["tools"] == []


async def test_one_call_alone_without_parallel_tool_calls() -> None:
    body: dict[str, Any] = {"tools": _TOOLS, "parallel_tool_calls": False}
    (choice,) = (await _chat(ChatServing(replies=[Reply(text=_CALLS)]), **body))["choices"]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["get_weather"]
    joined = _join(await _stream(ChatServing(replies=[Reply(text=_CALLS)]), **body))
    assert [call["function"]["name"] for call in joined["calls"]] == ["get_weather"]


async def test_markers_of_calls_are_shown_to_the_parser_even_if_they_are_special_tokens() -> None:
    serving = ChatServing()
    await _chat(serving, tools=_TOOLS)
    await _chat(serving, tools=_TOOLS, skip_special_tokens=True)
    await _chat(serving)
    skips = [request.sampling_params.skip_special_tokens for request in serving.requests]
    assert skips == [False, True, True]


async def test_a_call_that_is_cut_off_is_no_finished_call() -> None:
    text = '<tool_call>{"name": "now", "arguments": {"long": "' + "x" * 2000
    for finish in (FinishReason(type="length"), FinishReason(type="stop", matched=END_ID)):
        serving = ChatServing(replies=[Reply(text=text, finish=finish)])
        (choice,) = (await _chat(serving, tools=_TOOLS))["choices"]
        assert choice["finish_reason"] == finish.type
        arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]
        assert arguments == '{"long": "' + "x" * 2000


def _format(serving: FakeServing) -> dict[str, Any]:
    """The format of the structural tag that constrains the last request."""
    source = serving.requests[-1].sampling_params.structural_tag
    form: dict[str, Any] = json.loads(source or "{}").get("format", {})
    return form


async def test_required_calls_are_written_in_the_models_own_format() -> None:
    text = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    text = f'hm\n</think>\n\n{text}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>'
    serving = ChatServing(replies=[Reply(text=text)], prompt_suffix="<think>\n")
    (choice,) = (await _chat(serving, tools=_TOOLS, tool_choice="required"))["choices"]
    functions = [{"name": "get_weather", "arguments": '{"city": "Paris"}'}, {"name": "now", "arguments": "{}"}]
    assert [call["function"] for call in choice["message"]["tool_calls"]] == functions
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
    assert choice["message"]["reasoning_content"] == "hm"
    calls, more = _format(serving)["elements"]
    assert calls["type"] == "or"
    assert (more["type"], more["max"]) == ("repeat", MAX_CALLS - 1)
    for pieces in all_ways(text):
        serving = ChatServing(replies=[Reply(pieces=pieces)], prompt_suffix="<think>\n")
        joined = _join(await _stream(serving, tools=_TOOLS, tool_choice="required"))
        assert [call["function"] for call in joined["calls"]] == functions
        assert (joined["message"]["content"], joined["finish_reason"]) == ("", "tool_calls")


async def test_required_calls_of_an_unknown_format_are_a_json_array() -> None:
    text = '[{"name": "get_weather", "parameters": {"city": "Paris"}}, {"name": "now", "parameters": {}}]'
    functions = [{"name": "get_weather", "arguments": '{"city": "Paris"}'}, {"name": "now", "arguments": "{}"}]
    for pieces in all_ways(text):
        serving = FakeServing(replies=[Reply(pieces=pieces)])
        joined = _join(await _stream(serving, tools=_TOOLS, tool_choice="required"))
        assert [call["function"] for call in joined["calls"]] == functions
        assert (joined["message"]["content"], joined["finish_reason"]) == ("", "tool_calls")
        schema = json.loads(serving.requests[0].sampling_params.json_schema or "")
        assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 1, MAX_CALLS)
    serving = FakeServing(replies=[Reply(text=f"hm</think>{text}")], reasoning_parser="qwen3-thinking")
    (choice,) = (await _chat(serving, tools=_TOOLS, tool_choice="required", parallel_tool_calls=False))["choices"]
    assert [call["function"] for call in choice["message"]["tool_calls"]] == functions[:1]
    assert choice["message"]["reasoning_content"] == "hm"
    assert json.loads(serving.requests[0].sampling_params.json_schema or "")["maxItems"] == 1


async def test_a_named_tool_is_the_only_one_shown() -> None:
    serving = ChatServing(replies=[Reply(text='<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')])
    choice = {"type": "function", "function": {"name": "now"}}
    await _chat(serving, tools=_TOOLS, tool_choice=choice)
    assert serving.rendered[0]["tools"] == [_TOOLS[1]]
    # One call of one function.
    assert _format(serving)["type"] == "tag"


async def test_strict_tools_are_held_to_their_schema_once_a_call_begins() -> None:
    plain_function: Any = _TOOLS[0]["function"]
    strict = {"type": "function", "function": {**plain_function, "strict": True}}
    serving = ChatServing()
    await _chat(serving, tools=[strict, _TOOLS[1]])
    form = _format(serving)
    assert (form["type"], form["triggers"]) == ("triggered_tags", ["<tool_call>"])
    assert "stop_after_first" not in form
    schemas = [tag["content"]["json_schema"] for tag in form["tags"]]
    assert schemas == [plain_function["parameters"], {"type": "object"}]
    await _chat(serving, tools=[strict], parallel_tool_calls=False)
    assert _format(serving)["stop_after_first"] is True
    # Without strict tools nothing is constrained, and without a known format nothing can be.
    await _chat(serving, tools=_TOOLS)
    plain = FakeServing()
    await _chat(plain, tools=[strict])
    assert (_format(serving), _format(plain)) == ({}, {})


async def test_a_response_format_beside_tools_leaves_the_choice_between_both() -> None:
    text = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    for reply, content, names in ((text, None, ["now"]), ('{"a": 1}', '{"a": 1}', [])):
        serving = ChatServing(replies=[Reply(text=reply)])
        (choice,) = (await _chat(serving, tools=_TOOLS, response_format={"type": "json_object"}))["choices"]
        assert choice["message"]["content"] == content
        assert [call["function"]["name"] for call in choice["message"].get("tool_calls", [])] == names
        answer, calls = _format(serving)["elements"]
        assert answer == {"type": "json_schema", "json_schema": {"type": "object"}}
        assert calls["elements"][0]["type"] == "or"
    # Calls alone cannot follow a format of answers.
    error = (await _chat(serving, 400, tools=_TOOLS, tool_choice="required", response_format={"type": "json_object"}))[
        "error"
    ]
    assert error["param"] == "tool_choice"


async def test_harmony_frames_what_is_constrained() -> None:
    text = '<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>{"a": 1}'
    serving = FakeServing(replies=[Reply(text=text)], reasoning_parser="gpt-oss", function_call_parser="gpt-oss")
    (choice,) = (await _chat(serving, response_format={"type": "json_object"}))["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("hm", '{"a": 1}')
    head, schema = _format(serving)["elements"]
    assert head == {"type": "const_string", "value": "<|channel|>final<|message|>"}
    assert schema["json_schema"] == {"type": "object"}


async def test_tools_whose_schema_does_not_compile_are_refused_in_the_clients_words() -> None:
    finish = FinishReason(type="abort", message="no such type", status_code=400, code="bad", param="structural_tag")
    error = (await _chat(ChatServing(replies=[Reply(finish=finish)]), 400, tools=_TOOLS, tool_choice="required"))[
        "error"
    ]
    assert (error["param"], error["code"]) == ("tool_choice", "bad")
    assert "no such type" in error["message"]


async def test_required_calls_without_a_grammar_backend_are_refused_in_the_clients_words() -> None:
    serving = FakeServing(replies=[refuse("json_schema is not available: no grammar backend", param="json_schema")])
    for stream in (False, True):
        error = (await _chat(serving, 400, tools=_TOOLS, tool_choice="required", stream=stream))["error"]
        assert error["param"] == "tool_choice"
        assert "'required' needs constrained output" in error["message"]


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
    await _chat(serving, **body)
    source = serving.requests[0].sampling_params.json_schema
    assert (None if source is None else json.loads(source)) == schema


# --- logprobs ---


@pytest.mark.parametrize("text", ["ok é", "<think>a</think>b", _CALLS])
async def test_every_token_has_its_log_probability_in_answers_and_streams(text: str) -> None:
    body: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "tools": _TOOLS}
    (choice,) = (await _chat(ChatServing(replies=[Reply(text=text)]), **body))["choices"]
    entries = choice["logprobs"]["content"]
    assert [byte for entry in entries[:-1] for byte in entry["bytes"]] == list(text.encode())
    assert [len(entry["top_logprobs"]) for entry in entries] == [2] * len(entries)
    streamed = _join(await _stream(ChatServing(replies=[Reply(text=text)]), **body))
    assert streamed["logprobs"] == entries


async def test_half_a_character_is_told_by_its_bytes() -> None:
    (choice,) = (await _chat(ChatServing(replies=[Reply(text="é")]), logprobs=True))["choices"]
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
    (choice,) = (await _chat(_Impossible(), logprobs=True, top_logprobs=1))["choices"]
    (entry,) = choice["logprobs"]["content"]
    assert (entry["logprob"], entry["top_logprobs"][0]["logprob"]) == (-9999.0, -9999.0)


# --- n, endings, errors ---


async def test_choices_are_parsed_apart() -> None:
    replies = [Reply(text="<think>a</think>b"), Reply(text=_CALLS), Reply(text="c", finish=FinishReason(type="length"))]
    answer = await _chat(ChatServing(replies=replies), n=3, tools=_TOOLS)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["stop", "tool_calls", "length"]
    events = await _stream(ChatServing(replies=replies), n=3, tools=_TOOLS)
    for choice in answer["choices"]:
        joined = _join(events, choice["index"])
        assert joined["message"]["content"] == (choice["message"]["content"] or "")
        assert joined["message"]["reasoning_content"] == (choice["message"]["reasoning_content"] or "")
        assert joined["finish_reason"] == choice["finish_reason"]


async def test_the_stop_that_was_met_is_told() -> None:
    (choice,) = (await _chat(ChatServing(), stop="there"))["choices"]
    assert (choice["message"]["content"], choice["matched_stop"]) == ("Hello ", "there")
    events = await _stream(ChatServing(), stop="there")
    assert _join(events)["message"]["content"] == "Hello "
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
        ({"tools": [_TOOLS[1], _TOOLS[1]]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": _TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": _TOOLS, "tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice"),
        ({"tools": _TOOLS, "tool_choice": "required", "regex": "a"}, "tool_choice"),
        ({"functions": []}, "functions"),
        ({"stop": ["x"] * 10_000}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
    ],
)
async def test_bad_chats_name_the_field(body: dict[str, Any], param: str) -> None:
    serving = ChatServing()
    error = (await _chat(serving, 400, **body))["error"]
    assert error["param"] == param, error
    assert not serving.requests


async def test_an_image_is_refused_clearly() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    error = (await _chat(ChatServing(), 400, messages=[{"role": "user", "content": [image]}]))["error"]
    assert error["code"] == "unsupported_content"
    assert "text only" in error["message"]


async def test_a_model_that_is_not_served_is_a_404() -> None:
    error = (await _chat(ChatServing(), 404, model="gpt-9"))["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


async def test_a_choice_that_was_aborted_on_purpose_ends_with_abort() -> None:
    finish = FinishReason(type="abort", message="aborted", status_code=499)
    (choice,) = (await _chat(ChatServing(replies=[Reply(text="so far", finish=finish)])))["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("so far", "abort")
