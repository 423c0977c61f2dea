from __future__ import annotations

from typing import Any

import pytest

from hookline.messages.outputs import FinishReason
from hookline.messages.requests import LogprobRequest
from hookline.testkit.api_calls import read_events
from hookline.testkit.fake_serving import END_ID, MODEL, FakeServing, Reply, refuse
from hookline.testkit.in_process import http
from tests.factories.fake_serving import make_app

_PATH = "/v1/completions"


async def _complete(serving: FakeServing, status: int = 200, **body: Any) -> Any:
    async with http(make_app(serving)) as client:
        answer = await client.post(_PATH, json={"prompt": "ab", **body})
    assert answer.status_code == status, answer.text
    return answer.json()


async def _stream(serving: FakeServing, **body: Any) -> list[Any]:
    async with http(make_app(serving)) as client:
        return read_events(await client.post(_PATH, json={"prompt": "ab", "stream": True, **body}))


def _join(events: list[Any]) -> dict[int, dict[str, Any]]:
    """Choices put together as a client does it."""
    joined: dict[int, dict[str, Any]] = {}
    for choice in (choice for event in events for choice in event["choices"]):
        whole = joined.setdefault(choice["index"], {"text": "", "logprobs": {}, "finish_reason": None})
        assert whole["finish_reason"] is None, "nothing comes after the finish reason"
        whole["text"] += choice["text"]
        for name, values in (choice["logprobs"] or {}).items():
            whole["logprobs"].setdefault(name, []).extend(values)
        whole["finish_reason"] = choice["finish_reason"]
    return joined


async def test_a_completion_answers_with_text() -> None:
    serving = FakeServing()
    answer = await _complete(serving, model=MODEL)
    assert answer.pop("created") > 0
    assert answer.pop("id").startswith("cmpl-")
    assert answer == {
        "object": "text_completion",
        "model": MODEL,
        "choices": [
            {"index": 0, "text": "Hello there.", "logprobs": None, "finish_reason": "stop", "matched_stop": END_ID}
        ],
        "usage": {
            "prompt_tokens": 2,
            "completion_tokens": 13,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }


async def test_completions_have_sixteen_tokens_unless_asked_otherwise() -> None:
    serving = FakeServing()
    for body in ({}, {"max_tokens": None}, {"max_tokens": 3}):
        await _complete(serving, **body)
    assert [request.sampling_params.max_new_tokens for request in serving.requests] == [16, 16, 3]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("ab", ["ab"]),
        ("", [""]),
        (["a", "bc"], ["a", "bc"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
async def test_prompts_are_text_or_ids_one_or_several(prompt: Any, prompts: list[Any]) -> None:
    serving = FakeServing(replies=[Reply(text=text) for text in "wxyz"])
    answer = await _complete(serving, prompt=prompt, n=2)
    asked = [request.prompt if request.input_ids is None else request.input_ids for request in serving.requests]
    assert asked == prompts
    # All choices of the first prompt, then of the second.
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == list(
        enumerate("wxyz"[: 2 * len(prompts)])
    )
    assert answer["usage"]["prompt_tokens"] == sum(map(len, prompts)), "each prompt counts once"
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 2 * len(prompts)


async def test_streamed_pieces_join_to_the_whole_answer() -> None:
    replies = [Reply(text="Grüße"), Reply(text="b", finish=FinishReason(type="length")), Reply(text="c")]
    body = {"prompt": ["x", "y", "z"], "stream_options": {"include_usage": True}}
    whole = await _complete(FakeServing(replies=replies), prompt=["x", "y", "z"])
    events = await _stream(FakeServing(replies=replies), **body)
    joined = _join(events)
    for choice in whole["choices"]:
        assert joined[choice["index"]]["text"] == choice["text"]
        assert joined[choice["index"]]["finish_reason"] == choice["finish_reason"]
    assert (events[-1]["choices"], events[-1]["usage"]) == ([], whole["usage"])
    assert all(event["usage"] is None for event in events[:-1])


@pytest.mark.parametrize("prompt", ["ab", [97, 98], [97, 98, END_ID]])
async def test_echo_puts_the_prompt_before_the_answer(prompt: Any) -> None:
    body = {"prompt": prompt, "echo": True}
    (choice,) = (await _complete(FakeServing(), **body))["choices"]
    assert choice["text"] == "abHello there."
    assert _join(await _stream(FakeServing(), **body))[0]["text"] == "abHello there."


async def test_echo_without_output_scores_the_prompt() -> None:
    serving = FakeServing(replies=[Reply(text="", finish=FinishReason(type="length"))])
    (choice,) = (await _complete(serving, prompt="abc", echo=True, max_tokens=0, logprobs=1))["choices"]
    assert choice["text"] == "abc"
    assert choice["logprobs"] == {
        "tokens": ["a", "b", "c"],
        "token_logprobs": [None, -0.098, -0.099],
        "top_logprobs": [None, {"b": -0.098}, {"c": -0.099}],
        "text_offset": [0, 1, 2],
    }
    assert serving.requests[0].logprobs == LogprobRequest(top=1, input_start=0)


async def test_logprobs_zero_tells_the_taken_tokens_alone() -> None:
    (choice,) = (await _complete(FakeServing(replies=[Reply(text="ok")]), logprobs=0))["choices"]
    assert choice["logprobs"]["tokens"] == ["o", "k", "<|end|>"]
    assert choice["logprobs"]["top_logprobs"][0] == {"o": -0.111}


@pytest.mark.parametrize("body", [{}, {"echo": True}, {"echo": True, "n": 2}])
async def test_log_probabilities_of_streams_join_to_those_of_answers(body: dict[str, Any]) -> None:
    replies = [Reply(text="é漢x")]
    whole = (await _complete(FakeServing(replies=replies), logprobs=2, **body))["choices"]
    joined = _join(await _stream(FakeServing(replies=replies), logprobs=2, **body))
    assert [joined[choice["index"]]["logprobs"] for choice in whole] == [choice["logprobs"] for choice in whole]


async def test_text_offsets_count_characters_and_partial_tokens_have_their_own_names() -> None:
    (choice,) = (await _complete(FakeServing(replies=[Reply(text="aé漢b")]), logprobs=1))["choices"]
    tokens = choice["logprobs"]["tokens"]
    assert tokens[:3] == ["a", "bytes:\\xc3", "bytes:\\xa9"]
    #  a, two bytes of é, three of 漢, b, and the end, which is not in the text.
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2, 2, 2, 3, 4]
    for token, offset in zip(tokens, choice["logprobs"]["text_offset"], strict=True):
        if len(token) == 1:
            assert choice["text"][offset] == token


async def test_requests_of_several_prompts_have_ids_of_their_own() -> None:
    serving = FakeServing()
    answer = await _complete(serving, prompt=["a", "b"], rid="mine")
    assert answer["id"] == "mine"
    assert [request.rid for request in serving.requests] == ["mine-0", "mine-1"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [[1], []]}, "prompt"),
        ({"prompt": [["a"]]}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stream_options": {}}, "stream_options"),
        ({"json_schema": "{}", "ebnf": "x"}, "ebnf"),
    ],
)
async def test_bad_completions_name_the_field(body: dict[str, Any], param: str) -> None:
    serving = FakeServing()
    error = (await _complete(serving, 400, **body))["error"]
    assert error["param"] == param, error
    assert not serving.requests


async def test_best_of_n_is_n() -> None:
    assert len((await _complete(FakeServing(), best_of=2, n=2, suffix=""))["choices"]) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_one_bad_prompt_fails_the_request(stream: bool) -> None:
    serving = FakeServing(replies=[Reply(break_after=0), refuse("too long", code="context_length_exceeded")])
    answer = await _complete(serving, 400, prompt=["a", "b"], stream=stream)
    assert answer["error"]["code"] == "context_length_exceeded"
    assert len(serving.aborted) == 2
