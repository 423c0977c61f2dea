"""Asking for chats, and answers put together as a client does it."""

from __future__ import annotations

from typing import Any

from hookline.testkit.api_calls import read_events
from hookline.testkit.fake_serving import FakeServing
from hookline.testkit.in_process import http
from tests.factories.fake_serving import make_app

CHAT_PATH = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
CALLS = (
    "Let me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


async def chat(serving: FakeServing, status: int = 200, **body: Any) -> Any:
    """The answer to a chat, whole."""
    async with http(make_app(serving)) as client:
        answer = await client.post(CHAT_PATH, json={"messages": HI, **body})
    assert answer.status_code == status, answer.text
    return answer.json()


async def stream_chat(serving: FakeServing, **body: Any) -> list[Any]:
    """The events of a chat."""
    async with http(make_app(serving)) as client:
        return read_events(await client.post(CHAT_PATH, json={"messages": HI, "stream": True, **body}))


def join_choice(events: list[Any], index: int = 0) -> dict[str, Any]:
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
