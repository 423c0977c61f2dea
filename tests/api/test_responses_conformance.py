"""The Responses family passes the suite that plugin authors use."""

from __future__ import annotations

from typing import Any

import httpx

from hookline.testkit.api_calls import ApiCall
from hookline.testkit.api_families import ApiFamilySuite
from hookline.testkit.fake_serving import MODEL
from tests.factories.typed_events import read_typed_events

_PATH = "/v1/responses"
_ASK: dict[str, Any] = {"model": MODEL, "input": "Hi", "max_output_tokens": 64}
_TOOL = {"type": "function", "name": "now", "description": "the time", "parameters": {"type": "object"}}


def _text(answer: httpx.Response) -> str:
    return "".join(part["text"] for item in answer.json()["output"] for part in item["content"])


def _joined(answer: httpx.Response) -> str:
    events = read_typed_events(answer)
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


class TestResponses(ApiFamilySuite):
    name = "responses"
    serving = {"reasoning_parser": "think", "function_call_parser": "qwen25"}
    requests = (
        ApiCall(
            path=_PATH,
            body=_ASK,
            text=_text,
            streamed=ApiCall(path=_PATH, body={**_ASK, "stream": True}, text=_joined),
        ),
        ApiCall(
            path=_PATH,
            body={
                **_ASK,
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "What time is it?"}]},
                    {"type": "reasoning", "id": "rs_1", "content": [{"type": "reasoning_text", "text": "hm"}]},
                    {"type": "function_call", "call_id": "call_1", "name": "now", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "call_1", "output": "5"},
                ],
                "instructions": "Be brief.",
                "tools": [_TOOL],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "now"}],
                },
                "text": {"format": {"type": "text"}},
                "reasoning": {"effort": "low"},
                "include": ["message.output_text.logprobs"],
                "top_logprobs": 2,
                "metadata": {"a": "b"},
                "store": False,
            },
        ),
        ApiCall(method="GET", path=f"{_PATH}/resp_1", status=404),
        ApiCall(method="DELETE", path=f"{_PATH}/resp_1", status=404),
        ApiCall(path=f"{_PATH}/resp_1/cancel", status=404),
    )
