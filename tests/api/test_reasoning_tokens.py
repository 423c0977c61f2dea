from __future__ import annotations

from typing import Any

import pytest

from hookline.interfaces.parsers import FunctionCallDelta, ReasoningDelta
from hookline.testkit.api_calls import read_events
from hookline.testkit.fake_serving import END_ID, FakeServing, Reply
from hookline.testkit.in_process import http
from hookline.testkit.splits import all_ways
from hookline_api.chat.reasoning_tokens import count_reasoning_tokens
from tests.factories.fake_serving import ChatServing, make_app

_PATH = "/v1/chat/completions"
_THOUGHT = "<think>\nhmé\n</think>\n\n"


class _Turns:
    """A format in which reasoning and content take turns: ``(reasoning)content``."""

    def __init__(self) -> None:
        self._is_reasoning = False

    def feed(self, text: str) -> tuple[ReasoningDelta, FunctionCallDelta]:
        reasoning = content = ""
        for char in text:
            if char in "()":
                self._is_reasoning = char == "("
            elif self._is_reasoning:
                reasoning += char
            else:
                content += char
        return ReasoningDelta(reasoning=reasoning), FunctionCallDelta(content=content)

    def finish(self) -> tuple[ReasoningDelta, FunctionCallDelta]:
        return ReasoningDelta(), FunctionCallDelta()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("plain", 0),
        ("(ab)cd", 4),
        ("(ab", 3),
        # The marker that closes belongs to what it closes, also where content came before.
        ("x(ab)cd(e)f", 5),
    ],
)
async def test_tokens_of_formats_where_kinds_take_turns(text: str, count: int) -> None:
    ids = [*text.encode(), END_ID]
    assert await count_reasoning_tokens(FakeServing(), _Turns, text, ids) == count


async def _usage(text: str, pieces: list[str] | None = None, **body: Any) -> dict[str, Any]:
    serving = ChatServing(replies=[Reply(text=text, pieces=pieces)])
    messages = [{"role": "user", "content": "Hi"}]
    async with http(make_app(serving)) as client:
        if pieces is None:
            answer = await client.post(_PATH, json={"messages": messages, **body})
            found: dict[str, Any] = answer.json()["usage"]["completion_tokens_details"]
            return found
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        events = read_events(await client.post(_PATH, json={"messages": messages, **stream, **body}))
    last: dict[str, Any] = events[-1]["usage"]["completion_tokens_details"]
    return last


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("answer", 0),
        (_THOUGHT + "answer", len(_THOUGHT.encode())),
        # Cut off in the reasoning: all of it, but not the token that ended the output.
        ("<think>\nhm", 10),
    ],
)
async def test_usage_tells_how_many_tokens_were_reasoning(text: str, count: int) -> None:
    assert await _usage(text) == {"reasoning_tokens": count}
    for pieces in all_ways(text):
        assert await _usage(text, pieces=pieces) == {"reasoning_tokens": count}


async def test_reasoning_that_is_not_separated_is_not_counted() -> None:
    assert await _usage(_THOUGHT + "answer", separate_reasoning=False) == {"reasoning_tokens": 0}


async def test_log_probabilities_come_with_the_text_of_their_tokens() -> None:
    serving = ChatServing(replies=[Reply(pieces=[_THOUGHT + "an", "swer"])])
    body = {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True, "stream": True}
    async with http(make_app(serving)) as client:
        events = read_events(await client.post(_PATH, json=body))
    told: dict[str, bytes] = {"reasoning_content": b"", "content": b"", "": b""}
    for event in events:
        (choice,) = event["choices"]
        kind = next((key for key in ("reasoning_content", "content") if choice["delta"].get(key)), "")
        entries = (choice["logprobs"] or {"content": []})["content"]
        told[kind] += b"".join(bytes(entry["bytes"]) for entry in entries)
    # A marker's tokens come with the next text.
    assert told == {
        "reasoning_content": "<think>\nhmé".encode(),
        "content": b"\n</think>\n\nanswer",
        "": b"<|end|>",
    }
