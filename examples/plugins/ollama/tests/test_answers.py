"""What the family says to clients, over a fake engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hookline.messages.outputs import FinishReason
from hookline.testkit.api_calls import read_ndjson
from hookline.testkit.fake_serving import ADAPTER, MODEL, FakeServing, Reply
from hookline.testkit.in_process import http, make_app

_HI = [{"role": "user", "content": "Hi"}]
_TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
_CALLS = (
    'Wait.\n<tool_call>\n{"name": "now", "arguments": {"zone": "é"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def fake(*replies: Reply, **fields: Any) -> FakeServing:
    return FakeServing(
        replies=list(replies) or [Reply()], reasoning_parser="think", function_call_parser="qwen25", **fields
    )


def ask(serving: FakeServing, path: str, body: Any = None, *, status: int = 200, **server: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        async with http(make_app(["ollama"], serving, **server)) as client:
            return await client.request("GET" if body is None else "POST", path, json=body)

    answer = asyncio.run(call())
    assert answer.status_code == status, answer.text
    return answer


def chat(serving: FakeServing, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = ask(
        serving, "/api/chat", {"model": MODEL, "messages": _HI, "stream": False, **body}
    ).json()
    return answer


def lines(serving: FakeServing, path: str = "/api/chat", **body: Any) -> list[dict[str, Any]]:
    answer = ask(serving, path, {"model": MODEL, "messages": _HI, **body})
    assert answer.headers["content-type"] == "application/x-ndjson"
    return read_ndjson(answer)


def refused(serving: FakeServing, path: str, **body: Any) -> str:
    answer = ask(serving, path, {"model": MODEL, **body}, status=400).json()
    assert set(answer) == {"error"}
    return str(answer["error"])


def test_an_answer_has_ollamas_fields() -> None:
    answer = chat(fake(Reply(text="Hello.")))
    assert answer.pop("created_at").endswith("Z")
    durations = {name: answer.pop(name) for name in list(answer) if name.endswith("_duration")}
    assert answer == {
        "model": MODEL,
        "message": {"role": "assistant", "content": "Hello."},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": len("<user>Hi\n<assistant>"),
        "eval_count": len("Hello.") + 1,
    }
    assert durations.pop("load_duration") == 0
    assert min(durations.values()) > 0, "clients divide by them"
    assert durations["total_duration"] >= durations["eval_duration"]


def test_a_stream_is_lines_of_text_and_one_with_the_counts() -> None:
    *pieces, last = lines(fake(Reply(pieces=["Hel", "", "lo."])))
    assert [(piece["message"]["content"], piece["done"]) for piece in pieces] == [("Hel", False), ("lo.", False)]
    assert set(pieces[0]) == {"model", "created_at", "message", "done"}
    assert (last["message"]["content"], last["done"], last["done_reason"], last["eval_count"]) == ("", True, "stop", 7)
    assert min(last["eval_duration"], last["prompt_eval_duration"]) > 0


def test_the_limit_is_told() -> None:
    answer = chat(fake(Reply(text="x" * 50)), options={"num_predict": 5})
    assert (answer["message"]["content"], answer["done_reason"]) == ("xxxxx", "length")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 0, "top_p": 0.5, "min_p": 0.1}, {"temperature": 0, "top_p": 0.5, "min_p": 0.1}),
        ({"top_k": 0}, {"top_k": -1}),
        ({"top_k": 40, "seed": 7}, {"top_k": 40, "seed": 7}),
        ({"seed": -1}, {"seed": None}),
        ({}, {"max_new_tokens": None}),
        ({"num_predict": -2}, {"max_new_tokens": None}),
        ({"num_predict": 3}, {"max_new_tokens": 3}),
        ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
        ({"stop": []}, {"stop": ()}),
        (
            {"repeat_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": -0.5},
            {"repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": -0.5},
        ),
        ({"num_ctx": 4096, "num_gpu": -1, "use_mmap": True}, {}),
    ],
)
def test_options_reach_the_sampler(options: dict[str, Any], expected: dict[str, Any]) -> None:
    serving = fake()
    ask(serving, "/api/chat", {"model": MODEL, "messages": _HI, "options": options}, strict_requests=True)
    params = serving.requests[0].sampling_params
    assert {name: getattr(params, name) for name in expected} == expected


def test_options_without_effect_are_told() -> None:
    body = {"model": MODEL, "prompt": "Hi", "options": {"mirostat": 2, "num_ctx": 10}}
    answer = ask(fake(), "/api/generate", body)
    assert answer.headers["x-hookline-ignored-fields"] == "options.mirostat"
    strict = ask(fake(), "/api/generate", body, status=400, strict_requests=True)
    assert "options.mirostat" in strict.json()["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeat_penalty": 0}, "repeat_penalty must be a number more than 0"),
        ({"num_predict": 2**40}, "num_predict must be an integer from 0"),
        ({"temperature": -1}, "temperature must be"),
        ({"top_p": "1"}, "options.top_p"),
    ],
)
def test_bad_options_are_told_in_ollamas_words(options: dict[str, Any], message: str) -> None:
    assert message in refused(fake(), "/api/chat", messages=_HI, options=options)


def test_formats_become_schemas() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for wish, expected in (("json", {"type": "object"}), (schema, schema)):
        # The template opens reasoning, which a grammar leaves no room for.
        serving = fake(Reply(text='{"a": 1}'), prompt_suffix="<think>\n")
        assert chat(serving, format=wish)["message"] == {"role": "assistant", "content": '{"a": 1}'}
        assert json.loads(serving.requests[0].sampling_params.json_schema or "") == expected
    serving = fake()
    chat(serving, format="")
    assert serving.requests[0].sampling_params.json_schema is None
    assert "format must be 'json' or a JSON schema" in refused(fake(), "/api/chat", messages=_HI, format="yaml")


# --- thinking and tools ---


def test_thinking_is_told_apart_the_same_in_streams() -> None:
    reply = Reply(text="<think>\nhm\n</think>\n\nYes.")
    serving = fake(reply)
    message = chat(serving, think=True)["message"]
    assert (message["thinking"].strip(), message["content"].strip()) == ("hm", "Yes.")
    assert serving.rendered[0]["template_kwargs"] == {"enable_thinking": True}
    parts = [line["message"] for line in lines(fake(reply), think=True)]
    assert "".join(part.get("thinking", "") for part in parts) == message["thinking"]
    assert "".join(part["content"] for part in parts) == message["content"]


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (None, {}),
        (False, {"enable_thinking": False}),
        ("high", {"enable_thinking": True, "reasoning_effort": "high"}),
    ],
)
def test_think_reaches_the_template(think: Any, expected: dict[str, Any]) -> None:
    serving = fake()
    ask(serving, "/api/generate", {"model": MODEL, "prompt": "Hi", "think": think})
    assert serving.rendered[0]["template_kwargs"] == expected


def test_thinking_can_be_neither_hard_enough_nor_asked_of_every_model() -> None:
    assert "low, medium, high" in refused(fake(), "/api/chat", messages=_HI, think="hardest")


def calls_of(messages: Iterator[dict[str, Any]]) -> list[Any]:
    return [call for message in messages for call in message.get("tool_calls", [])]


def test_tool_calls_come_whole() -> None:
    message = chat(fake(Reply(text=_CALLS)), tools=[_TOOL])["message"]
    assert message["content"].strip() == "Wait."
    assert message["tool_calls"] == [
        {"function": {"index": 0, "name": "now", "arguments": {"zone": "é"}}},
        {"function": {"index": 1, "name": "now", "arguments": {}}},
    ]
    streamed = lines(fake(Reply(text=_CALLS)), tools=[_TOOL])
    assert calls_of(line["message"] for line in streamed) == message["tool_calls"]
    assert "".join(line["message"]["content"] for line in streamed) == message["content"]


def test_a_call_that_is_cut_off_is_text() -> None:
    text = '<tool_call>\n{"name": "now", "arguments": {"long": "' + "x" * 2000
    message = chat(fake(Reply(text=text, finish=FinishReason(type="length"))), tools=[_TOOL])["message"]
    assert "tool_calls" not in message
    assert message["content"].endswith('now({"long": "' + "x" * 2000), "nothing is lost"


def test_conversations_with_tools_reach_the_template_in_its_words() -> None:
    serving = fake()
    call = {"function": {"name": "now", "arguments": {"zone": "UTC"}}}
    messages = [
        *_HI,
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_name": "now", "content": "23:59"},
    ]
    chat(serving, messages=messages, tools=[{"function": {"name": "now"}}])
    _, assistant, tool = serving.rendered[0]["messages"]
    assert assistant["tool_calls"] == [{"type": "function", **call}]
    assert assistant["reasoning_content"] == "hm"
    assert tool == {"role": "tool", "name": "now", "content": "23:59"}
    assert serving.rendered[0]["tools"] == [{"type": "function", "function": {"name": "now"}}]
    assert serving.requests[0].sampling_params.skip_special_tokens is False


def test_bad_tools_are_refused() -> None:
    bad: list[dict[str, Any]] = [{}, {"function": {}}, {"type": "search", "function": {"name": "a"}}]
    for tool in bad:
        assert refused(fake(), "/api/chat", messages=_HI, tools=[tool]).startswith("tools[0] must be")


# --- generate ---


def test_generate_answers_a_prompt_through_the_template() -> None:
    serving = fake()
    answer = ask(serving, "/api/generate", {"model": MODEL, "prompt": "Hi", "system": "Be brief.", "stream": False})
    assert (answer.json()["response"], answer.json()["done_reason"]) == ("Hello there.", "stop")
    assert [message["role"] for message in serving.rendered[0]["messages"]] == ["system", "user"]


def test_raw_prompts_and_those_of_base_models_stay_as_they_are() -> None:
    for serving, body in ((fake(), {"raw": True}), (fake(has_chat_template=False), {})):
        text = "<think>not mine"
        serving.replies = [Reply(text=text)]
        answer = ask(serving, "/api/generate", {"model": MODEL, "prompt": "Once", "stream": False, **body})
        assert answer.json()["response"] == text
        assert serving.requests[0].prompt == "Once"


def test_log_probabilities_come_with_their_tokens() -> None:
    wish: dict[str, Any] = {"logprobs": True, "top_logprobs": 2}
    whole = chat(fake(Reply(text="é")), **wish)["logprobs"]
    assert [bytes(entry["bytes"]) for entry in whole] == [b"\xc3", b"\xa9", b"<|end|>"]
    assert [len(entry["top_logprobs"]) for entry in whole] == [2, 2, 2]
    streamed = lines(fake(Reply(text="é")), **wish)
    assert [entry for line in streamed for entry in line.get("logprobs", [])] == whole
    assert "top_logprobs must be from 0 to 20" in refused(fake(), "/api/chat", messages=_HI, top_logprobs=21)


def test_what_cannot_be_done_is_refused_with_a_way_out() -> None:
    image = ["aGVsbG8="]
    for body in ({"images": image}, {"suffix": "x"}, {"template": "{{ .Prompt }}"}, {"context": [1, 2]}):
        assert next(iter(body)) in refused(fake(), "/api/generate", prompt="Hi", **body)
    message = refused(fake(), "/api/chat", messages=[{"role": "user", "content": "Hi", "images": image}])
    assert message == (
        "messages[0].images[0] is of type 'image', but this server takes text only; send parts of type 'text'"
    )


def test_pictures_go_before_their_text() -> None:
    serving = fake(placeholders={"image": "<image>"})
    picture = {"role": "user", "content": "What?", "images": ["aGVsbG8=", "eA=="]}
    ask(serving, "/api/chat", {"model": MODEL, "messages": [picture]})
    ask(serving, "/api/generate", {"model": MODEL, "prompt": "What?", "images": ["aGVsbG8="]})
    chat, generate = serving.requests
    assert [(one.source, one.where) for one in chat.media] == [
        ("data:;base64,aGVsbG8=", "messages[0].images[0]"),
        ("data:;base64,eA==", "messages[0].images[1]"),
    ]
    assert [one.where for one in generate.media] == ["images[0]"]
    assert "not go with raw" in refused(
        fake(placeholders={"image": "<image>"}), "/api/generate", prompt="x", raw=True, images=["eA=="]
    )


# --- models ---


@pytest.mark.parametrize(
    ("body", "reason"), [({}, "load"), ({"keep_alive": 0}, "unload"), ({"keep_alive": -1}, "load")]
)
def test_requests_without_a_prompt_only_load(body: dict[str, Any], reason: str) -> None:
    serving = fake()
    for path in ("/api/chat", "/api/generate"):
        answer = ask(serving, path, {"model": MODEL, **body}).json()
        assert (answer["done"], answer["done_reason"]) == (True, reason)
    assert serving.requests == []


def test_models_are_called_by_name_or_with_the_latest_tag() -> None:
    serving = fake()
    for name in (MODEL, f"{MODEL}:latest", ADAPTER):
        assert chat(serving, model=name)["model"] == name
    assert [request.model for request in serving.requests] == [MODEL, MODEL, ADAPTER]
    for path in ("/api/chat", "/api/generate", "/api/show"):
        assert "is not served here" in ask(serving, path, {"model": "llama3:70b"}, status=404).json()["error"]


def test_what_is_served() -> None:
    serving = fake()
    models = ask(serving, "/api/tags").json()["models"]
    assert [model["name"] for model in models] == [MODEL, ADAPTER]
    assert models[1]["details"]["parent_model"] == MODEL
    assert len({model["digest"] for model in models}) == 2
    running = ask(serving, "/api/ps").json()["models"]
    assert [(model["model"], model["context_length"]) for model in running] == [(MODEL, 512), (ADAPTER, 512)]
    shown = ask(serving, "/api/show", {"name": MODEL}).json()
    assert shown["model_info"]["hookline.context_length"] == 512
    assert shown["capabilities"] == ["completion", "tools", "thinking"]
    assert ask(serving, "/").text == "Ollama is running"


def test_the_version_is_an_option() -> None:
    async def version(**options: Any) -> Any:
        async with http(make_app(["ollama"], options={"ollama": options})) as client:
            return (await client.get("/api/version")).json()["version"]

    assert asyncio.run(version()) == "0.13.0"
    assert asyncio.run(version(version="0.20.1")) == "0.20.1"


def test_texts_that_are_too_long_to_embed_are_cut_unless_that_is_forbidden() -> None:
    long = "x" * 600
    serving = fake(Reply(embedding=[0.6, 0.8]))
    answer = ask(serving, "/api/embed", {"model": MODEL, "input": ["Hi", long]}).json()
    assert answer["embeddings"] == [[0.6, 0.8]] * 2
    assert answer["prompt_eval_count"] == 2 + 512
    ask(serving, "/api/embed", {"model": MODEL, "input": long, "truncate": False})
    assert [len(request.input_ids or ()) for request in serving.requests] == [2, 512, 600]
