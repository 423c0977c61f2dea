"""Tools of chats, and what a chat may be constrained to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hookline.formats.wire import MAX_CALLS
from hookline.messages.outputs import FinishReason
from hookline.testkit.fake_serving import END_ID, FakeServing, Reply, refuse
from hookline.testkit.splits import all_ways
from tests.factories.chat_answers import CALLS, TOOLS, chat, join_choice, stream_chat
from tests.factories.fake_serving import ChatServing


async def test_tool_calls_arrive_split_the_same_in_streams() -> None:
    (choice,) = (await chat(ChatServing(replies=[Reply(text=CALLS)]), tools=TOOLS))["choices"]
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
    for pieces in all_ways(CALLS):
        joined = join_choice(await stream_chat(ChatServing(replies=[Reply(pieces=pieces)]), tools=TOOLS))
        assert joined["message"]["content"] == "Let me look."
        assert [call["function"] for call in joined["calls"]] == functions
        assert joined["finish_reason"] == "tool_calls"


async def test_a_message_of_calls_alone_has_no_content() -> None:
    text = CALLS.partition("\n")[2]
    (choice,) = (await chat(ChatServing(replies=[Reply(text=text)]), tools=TOOLS))["choices"]
    assert choice["message"]["content"] is None


async def test_reasoning_then_calls() -> None:
    text = f"<think>which city?</think>\n{CALLS}"
    (choice,) = (await chat(ChatServing(replies=[Reply(text=text)]), tools=TOOLS))["choices"]
    assert choice["message"]["reasoning_content"] == "which city?"
    assert choice["message"]["content"] == "Let me look."
    assert len(choice["message"]["tool_calls"]) == 2


@pytest.mark.parametrize("wish", [{}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": []}])
async def test_calls_are_text_if_tools_are_not_wanted(wish: dict[str, Any]) -> None:
    serving = ChatServing(replies=[Reply(text=CALLS)])
    (choice,) = (await chat(serving, **wish))["choices"]
    assert choice["message"]["content"] == CALLS
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    assert serving.rendered[0]["tools"] == []


async def test_one_call_alone_without_parallel_tool_calls() -> None:
    body: dict[str, Any] = {"tools": TOOLS, "parallel_tool_calls": False}
    (choice,) = (await chat(ChatServing(replies=[Reply(text=CALLS)]), **body))["choices"]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["get_weather"]
    joined = join_choice(await stream_chat(ChatServing(replies=[Reply(text=CALLS)]), **body))
    assert [call["function"]["name"] for call in joined["calls"]] == ["get_weather"]


async def test_markers_of_calls_are_shown_to_the_parser_even_if_they_are_special_tokens() -> None:
    serving = ChatServing()
    await chat(serving, tools=TOOLS)
    await chat(serving, tools=TOOLS, skip_special_tokens=True)
    await chat(serving)
    skips = [request.sampling_params.skip_special_tokens for request in serving.requests]
    assert skips == [False, True, True]


async def test_a_call_that_is_cut_off_is_no_finished_call() -> None:
    text = '<tool_call>{"name": "now", "arguments": {"long": "' + "x" * 2000
    for finish in (FinishReason(type="length"), FinishReason(type="stop", matched=END_ID)):
        serving = ChatServing(replies=[Reply(text=text, finish=finish)])
        (choice,) = (await chat(serving, tools=TOOLS))["choices"]
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
    (choice,) = (await chat(serving, tools=TOOLS, tool_choice="required"))["choices"]
    functions = [{"name": "get_weather", "arguments": '{"city": "Paris"}'}, {"name": "now", "arguments": "{}"}]
    assert [call["function"] for call in choice["message"]["tool_calls"]] == functions
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
    assert choice["message"]["reasoning_content"] == "hm"
    calls, more = _format(serving)["elements"]
    assert calls["type"] == "or"
    assert (more["type"], more["max"]) == ("repeat", MAX_CALLS - 1)
    for pieces in all_ways(text):
        serving = ChatServing(replies=[Reply(pieces=pieces)], prompt_suffix="<think>\n")
        joined = join_choice(await stream_chat(serving, tools=TOOLS, tool_choice="required"))
        assert [call["function"] for call in joined["calls"]] == functions
        assert (joined["message"]["content"], joined["finish_reason"]) == ("", "tool_calls")


async def test_required_calls_of_an_unknown_format_are_a_json_array() -> None:
    text = '[{"name": "get_weather", "parameters": {"city": "Paris"}}, {"name": "now", "parameters": {}}]'
    functions = [{"name": "get_weather", "arguments": '{"city": "Paris"}'}, {"name": "now", "arguments": "{}"}]
    for pieces in all_ways(text):
        serving = FakeServing(replies=[Reply(pieces=pieces)])
        joined = join_choice(await stream_chat(serving, tools=TOOLS, tool_choice="required"))
        assert [call["function"] for call in joined["calls"]] == functions
        assert (joined["message"]["content"], joined["finish_reason"]) == ("", "tool_calls")
        schema = json.loads(serving.requests[0].sampling_params.json_schema or "")
        assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 1, MAX_CALLS)
    serving = FakeServing(replies=[Reply(text=f"hm</think>{text}")], reasoning_parser="qwen3-thinking")
    (choice,) = (await chat(serving, tools=TOOLS, tool_choice="required", parallel_tool_calls=False))["choices"]
    assert [call["function"] for call in choice["message"]["tool_calls"]] == functions[:1]
    assert choice["message"]["reasoning_content"] == "hm"
    assert json.loads(serving.requests[0].sampling_params.json_schema or "")["maxItems"] == 1


async def test_a_named_tool_is_the_only_one_shown() -> None:
    serving = ChatServing(replies=[Reply(text='<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')])
    choice = {"type": "function", "function": {"name": "now"}}
    await chat(serving, tools=TOOLS, tool_choice=choice)
    assert serving.rendered[0]["tools"] == [TOOLS[1]]
    # One call of one function.
    assert _format(serving)["type"] == "tag"


async def test_strict_tools_are_held_to_their_schema_once_a_call_begins() -> None:
    plain_function: Any = TOOLS[0]["function"]
    strict = {"type": "function", "function": {**plain_function, "strict": True}}
    serving = ChatServing()
    await chat(serving, tools=[strict, TOOLS[1]])
    form = _format(serving)
    assert (form["type"], form["triggers"]) == ("triggered_tags", ["<tool_call>"])
    assert "stop_after_first" not in form
    schemas = [tag["content"]["json_schema"] for tag in form["tags"]]
    assert schemas == [plain_function["parameters"], {"type": "object"}]
    await chat(serving, tools=[strict], parallel_tool_calls=False)
    assert _format(serving)["stop_after_first"] is True
    # Without strict tools nothing is constrained, and without a known format nothing can be.
    await chat(serving, tools=TOOLS)
    plain = FakeServing()
    await chat(plain, tools=[strict])
    assert (_format(serving), _format(plain)) == ({}, {})


async def test_a_response_format_beside_tools_leaves_the_choice_between_both() -> None:
    text = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    for reply, content, names in ((text, None, ["now"]), ('{"a": 1}', '{"a": 1}', [])):
        serving = ChatServing(replies=[Reply(text=reply)])
        (choice,) = (await chat(serving, tools=TOOLS, response_format={"type": "json_object"}))["choices"]
        assert choice["message"]["content"] == content
        assert [call["function"]["name"] for call in choice["message"].get("tool_calls", [])] == names
        answer, calls = _format(serving)["elements"]
        assert answer == {"type": "json_schema", "json_schema": {"type": "object"}}
        assert calls["elements"][0]["type"] == "or"
    # Calls alone cannot follow a format of answers.
    error = (await chat(serving, 400, tools=TOOLS, tool_choice="required", response_format={"type": "json_object"}))[
        "error"
    ]
    assert error["param"] == "tool_choice"


async def test_harmony_frames_what_is_constrained() -> None:
    text = '<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>{"a": 1}'
    serving = FakeServing(replies=[Reply(text=text)], reasoning_parser="gpt-oss", function_call_parser="gpt-oss")
    (choice,) = (await chat(serving, response_format={"type": "json_object"}))["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("hm", '{"a": 1}')
    head, schema = _format(serving)["elements"]
    assert head == {"type": "const_string", "value": "<|channel|>final<|message|>"}
    assert schema["json_schema"] == {"type": "object"}


async def test_tools_whose_schema_does_not_compile_are_refused_in_the_clients_words() -> None:
    finish = FinishReason(type="abort", message="no such type", status_code=400, code="bad", param="structural_tag")
    error = (await chat(ChatServing(replies=[Reply(finish=finish)]), 400, tools=TOOLS, tool_choice="required"))["error"]
    assert (error["param"], error["code"]) == ("tool_choice", "bad")
    assert "no such type" in error["message"]


async def test_required_calls_without_a_grammar_backend_are_refused_in_the_clients_words() -> None:
    serving = FakeServing(replies=[refuse("json_schema is not available: no grammar backend", param="json_schema")])
    for stream in (False, True):
        error = (await chat(serving, 400, tools=TOOLS, tool_choice="required", stream=stream))["error"]
        assert error["param"] == "tool_choice"
        assert "'required' needs constrained output" in error["message"]
