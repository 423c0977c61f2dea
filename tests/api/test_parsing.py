from __future__ import annotations

from typing import Any

import pytest

from hookline.testkit.fake_serving import FakeServing
from hookline.testkit.in_process import http
from tests.factories.fake_serving import ChatServing, make_app

_TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
_CALL = '<tool_call>\n{"name": "now", "arguments": {"zone": "é"}}\n</tool_call>'


async def _post(serving: FakeServing, path: str, body: dict[str, Any], status: int = 200) -> Any:
    async with http(make_app(serving)) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_calls_are_found_in_a_text() -> None:
    body = {"text": f"<think>hm</think>Wait.\n{_CALL}\n{_CALL}", "tools": _TOOLS, "tool_call_parser": "qwen25"}
    assert await _post(ChatServing(), "/parse_function_call", body) == {
        "normal_text": "<think>hm</think>Wait.",
        "calls": [{"tool_index": index, "name": "now", "parameters": '{"zone": "é"}'} for index in range(2)],
    }


async def test_a_text_without_calls_is_all_text() -> None:
    answer = await _post(ChatServing(), "/parse_function_call", {"text": " a <tool_call", "tools": _TOOLS})
    assert answer == {"normal_text": " a <tool_call", "calls": []}


@pytest.mark.parametrize(
    ("body", "reasoning", "text"),
    [
        ({"text": "<think>hm</think>so"}, "hm", "so"),
        ({"text": "hm</think>so", "prompt_tail": "<think>\n"}, "hm", "so"),
        ({"text": "so", "reasoning_parser": "think"}, "", "so"),
        ({"text": f"so {_CALL}"}, "", f"so {_CALL}"),
    ],
)
async def test_reasoning_is_split_off_a_text(body: dict[str, Any], reasoning: str, text: str) -> None:
    assert await _post(ChatServing(), "/separate_reasoning", body) == {"reasoning_text": reasoning, "text": text}


@pytest.mark.parametrize(
    ("serving", "path", "body", "param"),
    [
        (ChatServing(), "/parse_function_call", {"tools": _TOOLS, "tool_call_parser": "other"}, "tool_call_parser"),
        (FakeServing(), "/parse_function_call", {"tools": _TOOLS}, "tool_call_parser"),
        (ChatServing(), "/parse_function_call", {"tools": [{"type": "x"}]}, "tools"),
        (ChatServing(), "/separate_reasoning", {"reasoning_parser": "other"}, "reasoning_parser"),
        (FakeServing(), "/separate_reasoning", {}, "reasoning_parser"),
    ],
)
async def test_what_cannot_be_parsed_is_refused(
    serving: FakeServing, path: str, body: dict[str, Any], param: str
) -> None:
    error = (await _post(serving, path, {"text": "x", **body}, 400))["error"]
    assert error["param"] == param
