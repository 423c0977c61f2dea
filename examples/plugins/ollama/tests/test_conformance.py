"""The conformance suite of API families, over a fake engine."""

from __future__ import annotations

from typing import Any

import httpx

from hookline.testkit.api_calls import ApiCall, read_ndjson
from hookline.testkit.api_families import ApiFamilySuite
from hookline.testkit.fake_serving import MODEL

_CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [
        {"role": "user", "content": "Is it late?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "now", "arguments": {"zone": "UTC"}}}]},
        {"role": "tool", "tool_name": "now", "content": "23:59"},
    ],
    "options": {"temperature": 0, "num_predict": 64, "top_k": 0, "seed": -1},
    "keep_alive": "5m",
}
_GENERATE: dict[str, Any] = {"model": MODEL, "prompt": "Hi", "system": "Be brief."}


def _said(answer: httpx.Response) -> str:
    """What all lines say, of chat and of generate."""
    return "".join(
        str(item["message"]["content"] if "message" in item else item["response"]) for item in read_ndjson(answer)
    )


class TestOllama(ApiFamilySuite):
    name = "ollama"
    serving = {"reasoning_parser": "think", "function_call_parser": "qwen25"}
    requests = (
        ApiCall(
            path="/api/chat",
            body={**_CHAT, "stream": False},
            text=lambda answer: str(answer.json()["message"]["content"]),
            streamed=ApiCall(path="/api/chat", body=_CHAT, text=_said),
        ),
        ApiCall(
            path="/api/chat",
            body={
                "model": f"{MODEL}:latest",
                "messages": [{"role": "user", "content": "Hi"}],
                "tools": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}],
                "think": True,
                "stream": False,
            },
        ),
        ApiCall(path="/api/chat", body={"model": MODEL, "keep_alive": 0}),
        ApiCall(
            path="/api/generate",
            body={**_GENERATE, "stream": False, "logprobs": True, "top_logprobs": 2, "format": {"type": "object"}},
            text=lambda answer: str(answer.json()["response"]),
            streamed=ApiCall(path="/api/generate", body={**_GENERATE, "think": "low"}, text=_said),
        ),
        ApiCall(path="/api/generate", body={**_GENERATE, "raw": True}, is_stream=True),
        ApiCall(path="/api/generate", body={"model": MODEL}),
        ApiCall(path="/api/embed", body={"model": MODEL, "input": ["Hi", "Ho"], "dimensions": 2}),
        ApiCall(path="/api/show", body={"model": MODEL}),
        ApiCall(path="/api/show", body={"model": "another"}, status=404),
        *(ApiCall(method="GET", path=path) for path in ("/api/tags", "/api/ps", "/api/version", "/")),
        ApiCall(method="HEAD", path="/"),
    )
