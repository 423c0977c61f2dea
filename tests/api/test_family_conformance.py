"""The shipped API families pass the suite that plugin authors use."""

from __future__ import annotations

from typing import Any

import httpx

from hookline.testkit.api_calls import ApiCall, read_events
from hookline.testkit.api_families import ApiFamilySuite
from hookline.testkit.fake_serving import MODEL


def _is_listed(answer: httpx.Response) -> None:
    assert answer.json()["data"][0]["id"] == MODEL


_TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]


class TestNative(ApiFamilySuite):
    name = "native"
    serving = {"reasoning_parser": "think", "function_call_parser": "qwen25"}
    requests = (
        ApiCall(
            path="/generate",
            body={"text": "Hi", "sampling_params": {"temperature": 0}, "return_logprob": True},
            text=lambda answer: str(answer.json()["text"]),
            streamed=ApiCall(
                path="/generate",
                body={"text": "Hi", "stream": True},
                # Events hold the text so far.
                text=lambda answer: str(read_events(answer)[-1]["text"]),
            ),
        ),
        ApiCall(
            path="/generate",
            body={"input_ids": [[72], [105]], "rid": ["a", "b"]},
            streamed=ApiCall(path="/generate", body={"text": ["Hi", "Ho"], "stream": True}),
        ),
        ApiCall(path="/encode", body={"text": ["Hi", "Ho"], "dimensions": 2}),
        ApiCall(path="/tokenize", body={"prompt": "Hi"}),
        ApiCall(path="/detokenize", body={"tokens": [72]}),
        ApiCall(path="/parse_function_call", body={"text": "Hi", "tools": _TOOLS}),
        ApiCall(path="/separate_reasoning", body={"text": "Hi", "prompt_tail": "<think>"}),
        ApiCall(path="/abort_request", body={"rid": "a"}),
        ApiCall(path="/flush_cache"),
        ApiCall(path="/update_weights_from_disk", body={"model_path": "/m"}),
        ApiCall(path="/release_memory_occupation", body={"tags": ["kv"]}),
        ApiCall(path="/resume_memory_occupation"),
        *(
            ApiCall(method="GET", path=path)
            for path in ("/live", "/ready", "/health", "/metrics", "/server_info", "/plugins")
        ),
    )


def _content(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"] or "")


def _joined(answer: httpx.Response) -> str:
    choices = [choice for event in read_events(answer) for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


_CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}
_PATH = "/v1/chat/completions"


class TestOpenAI(ApiFamilySuite):
    name = "openai"
    serving = {"reasoning_parser": "think", "function_call_parser": "qwen25"}
    requests = (
        ApiCall(method="GET", path="/v1/models", check=_is_listed),
        ApiCall(method="GET", path=f"/v1/models/{MODEL}"),
        ApiCall(method="GET", path="/v1/models/some/other", status=404),
        ApiCall(
            path=_PATH,
            body=_CHAT,
            text=_content,
            streamed=ApiCall(
                path=_PATH,
                body={**_CHAT, "stream": True, "stream_options": {"include_usage": True}},
                text=_joined,
            ),
        ),
        ApiCall(
            path=_PATH,
            body={
                **_CHAT,
                "tools": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}],
                "tool_choice": "auto",
                "n": 2,
                "top_logprobs": 1,
                "logprobs": True,
            },
            streamed=ApiCall(path=_PATH, body={**_CHAT, "n": 2, "stream": True}),
        ),
        ApiCall(
            path="/v1/completions",
            body={"prompt": "Hi", "max_tokens": 64, "echo": False, "stop": ["#"]},
            text=lambda answer: str(answer.json()["choices"][0]["text"]),
            streamed=ApiCall(
                path="/v1/completions",
                body={"prompt": "Hi", "max_tokens": 64, "stream": True},
                text=lambda answer: "".join(event["choices"][0]["text"] for event in read_events(answer)),
            ),
        ),
        ApiCall(
            path="/v1/completions",
            body={"prompt": ["Hi", "Ho"]},
            streamed=ApiCall(path="/v1/completions", body={"prompt": [[72], [105]], "stream": True}),
        ),
        ApiCall(path="/v1/embeddings", body={"input": ["Hi", "Ho"], "encoding_format": "base64"}),
    )
