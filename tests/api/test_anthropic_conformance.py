"""The Anthropic family passes the suite that plugin authors use."""

from __future__ import annotations

from typing import Any

import httpx

from hookline.testkit.api_calls import ApiCall
from hookline.testkit.api_families import ApiFamilySuite
from hookline.testkit.fake_serving import MODEL
from tests.factories.typed_events import read_typed_events

_PATH = "/v1/messages"
_ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
_TOOL = {"name": "now", "description": "the time", "input_schema": {"type": "object"}}


def _text(answer: httpx.Response) -> str:
    return "".join(block["text"] for block in answer.json()["content"])


def _joined(answer: httpx.Response) -> str:
    deltas = [event["delta"] for event in read_typed_events(answer) if event["type"] == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas)


def _counts(answer: httpx.Response) -> None:
    assert answer.json()["input_tokens"] > 1


class TestAnthropic(ApiFamilySuite):
    name = "anthropic"
    serving = {"reasoning_parser": "think", "function_call_parser": "qwen25"}
    requests = (
        ApiCall(
            path=_PATH,
            body=_ASK,
            headers={"anthropic-version": "2023-06-01"},
            text=_text,
            streamed=ApiCall(path=_PATH, body={**_ASK, "stream": True}, text=_joined),
        ),
        ApiCall(
            path=_PATH,
            body={
                **_ASK,
                "system": [{"type": "text", "text": "Be brief."}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "What time is it?"}]},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "hm", "signature": "unsigned"},
                            {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}},
                        ],
                    },
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "5"}]},
                ],
                "tools": [_TOOL],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
                "thinking": {"type": "adaptive"},
                "stop_sequences": ["#"],
                "metadata": {"user_id": "u"},
            },
        ),
        ApiCall(
            path=f"{_PATH}/count_tokens",
            body={"model": MODEL, "messages": _ASK["messages"], "tools": [_TOOL]},
            check=_counts,
        ),
    )
