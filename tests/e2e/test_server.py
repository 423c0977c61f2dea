"""The demo model behind `hookline serve`, through the official client: what a newcomer meets."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from hookline import Engine, SamplingParams
from tests.factories.demo_server import RunningServer
from tests.factories.echo_server import wait_until

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("server"), ["--check-ledger"])
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60)


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    return client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": text}], temperature=0, **options
    )


def state(server: RunningServer) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/server_info", timeout=30).json()["scheduler"]
    return found


def test_a_sum_is_thought_about_and_answered(client: openai.OpenAI) -> None:
    choice = ask(client, "What is 12 + 30?").choices[0]
    assert "42" in choice.message.content
    assert choice.message.reasoning_content
    assert "<think>" not in choice.message.content
    assert choice.finish_reason == "stop"


def test_a_streamed_answer_is_the_whole_answer(client: openai.OpenAI) -> None:
    whole = ask(client, "What is 12 + 30?")
    content, reasoning, usage = [], [], None
    for chunk in ask(client, "What is 12 + 30?", stream=True, stream_options={"include_usage": True}):
        if chunk.usage is not None:
            usage = chunk.usage
        for choice in chunk.choices:
            content.append(choice.delta.content or "")
            reasoning.append((choice.delta.model_extra or {}).get("reasoning_content") or "")
    assert "".join(content) == whole.choices[0].message.content
    assert "".join(reasoning) == whole.choices[0].message.reasoning_content
    assert usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_a_tool_is_called(client: openai.OpenAI) -> None:
    choice = ask(client, "What is the weather in Paris?", tools=[WEATHER]).choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0].function
    assert call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Paris"}


def test_a_schema_binds_the_answer(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answer = ask(
        client,
        "Tell me about somebody.",
        max_completion_tokens=200,
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}},
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    ).choices[0]
    assert answer.finish_reason == "stop"
    assert set(json.loads(answer.message.content)) == {"name", "age"}


def test_completions_give_choices_logprobs_and_echo(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="demo",
        prompt="Hello",
        n=3,
        seed=4,
        temperature=2,
        max_tokens=6,
        logprobs=2,
        echo=True,
        extra_body={"ignore_eos": True},
    )
    assert len({choice.text for choice in answer.choices}) > 1
    for choice in answer.choices:
        assert choice.text.startswith("Hello")
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs is not None
        assert len(choice.logprobs.token_logprobs) == answer.usage.prompt_tokens + 6  # type: ignore[union-attr]


def test_a_second_turn_reuses_the_first(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Please repeat these words: apple river stone cloud"}]
    options: Any = {
        "model": "demo",
        "temperature": 0,
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
    }
    first = client.chat.completions.create(messages=messages, **options)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "Thanks"},
    ]
    second = client.chat.completions.create(messages=messages, **options)
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 8


def test_64_streams_at_once_equal_their_answers_alone(server: RunningServer) -> None:
    prompts = [f"What is {number} + {number + 3}?" for number in range(64)]

    async def stream(client: openai.AsyncOpenAI, prompt: str) -> str:
        parts: list[str] = []
        async for chunk in await client.completions.create(
            model="demo", prompt=prompt, stream=True, temperature=0, max_tokens=24, extra_body={"ignore_eos": True}
        ):
            parts.extend(choice.text for choice in chunk.choices)
        return "".join(parts)

    async def all_streams() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
            return await asyncio.gather(*(stream(client, prompt) for prompt in prompts))

    texts = asyncio.run(all_streams())
    params = SamplingParams(temperature=0, max_new_tokens=24, ignore_eos=True)
    with Engine("demo") as engine:
        alone = [engine.generate([prompt], params)[0].text for prompt in prompts]
    assert texts == alone


def test_a_disconnect_frees_every_choice(server: RunningServer) -> None:
    body = {"model": "demo", "prompt": "Hello", "n": 4, "max_tokens": 3000, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as response:
        next(response.iter_lines())
    for _ in range(100):
        if state(server)["num_running"] == 0:
            break
        asyncio.run(asyncio.sleep(0.05))
    assert state(server)["num_running"] == 0


IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
BAD_REQUESTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "a model that is not served": ({"model": "gpt-9", "prompt": "x"}, 404, "demo"),
    "a prompt beyond the context": ({"model": "demo", "prompt": [5] * 5000}, 400, "4096"),
    "a token id out of range": ({"model": "demo", "prompt": [10**7]}, 400, "10000000"),
    "a negative temperature": ({"model": "demo", "prompt": "x", "temperature": -1}, 400, "temperature"),
    "a text for a number": ({"model": "demo", "prompt": "x", "top_p": "much"}, 400, "top_p"),
    "a regex that does not compile": ({"model": "demo", "prompt": "x", "regex": "([a"}, 400, "regex"),
    "an invalid schema": (
        {
            "model": "demo",
            "prompt": "x",
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 3}}},
        },
        400,
        "schema",
    ),
    "10,000 stop strings": ({"model": "demo", "prompt": "x", "stop": [str(i) for i in range(10_000)]}, 400, "stop"),
    "an empty image": (
        {
            "model": "demo",
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        },
        400,
        "it is empty",
    ),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_told_and_the_server_goes_on(name: str, server: RunningServer) -> None:
    body, status, word = BAD_REQUESTS[name]
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    response = httpx.post(f"{server.url}{path}", json=body, timeout=60)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert word in error["message"]
    assert set(error) >= {"message", "type", "param", "code"}
    good = httpx.post(
        f"{server.url}/v1/completions", json={"model": "demo", "prompt": "x", "max_tokens": 2}, timeout=60
    )
    assert good.status_code == 200


@pytest.mark.parametrize(("content", "status"), [(b"{not json", 400), (b'"' + b"x" * 40_000_000 + b'"', 413)])
def test_a_broken_or_oversized_body_is_refused(content: bytes, status: int, server: RunningServer) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{server.url}/v1/completions", content=content, headers=headers, timeout=60)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_released_memory_is_told_by_readiness_and_refusals(server: RunningServer) -> None:
    body = {"model": "demo", "prompt": "x", "max_tokens": 1}
    assert httpx.post(f"{server.url}/release_memory_occupation", json={}, timeout=60).status_code == 200
    try:
        ready = httpx.get(f"{server.url}/ready", timeout=30)
        assert ready.status_code == 503
        assert "resume_memory" in ready.text
        refused = httpx.post(f"{server.url}/v1/completions", json=body, timeout=30)
        assert refused.status_code == 503
        assert "resume_memory" in refused.json()["error"]["message"]
    finally:
        assert httpx.post(f"{server.url}/resume_memory_occupation", json={}, timeout=60).status_code == 200
    assert httpx.get(f"{server.url}/ready", timeout=30).status_code == 200
    assert httpx.post(f"{server.url}/v1/completions", json=body, timeout=30).status_code == 200


def test_the_ledger_held_through_all_of_it(server: RunningServer) -> None:
    # Requests whose clients left may still be on their way out.
    wait_until(lambda: state(server)["num_running"] == state(server)["num_waiting"] == 0)
    now = state(server)
    assert now["ledger_violations"] == 0
    assert now["used_tokens"] <= now["total_tokens"]


def test_a_killed_scheduler_ends_the_server_and_a_stop_leaves_nothing(tmp_path: Any) -> None:
    running = RunningServer(tmp_path)
    try:
        children = running.children()
        scheduler = max(children, key=lambda process: process.memory_info().rss)
        scheduler.kill()
        assert running.process.wait(10) == 1
        assert "scheduler" in running.stderr.strip().splitlines()[-1]
        for child in children:
            child.wait(10)
    finally:
        running.close()


def test_sigterm_ends_a_server_cleanly(tmp_path: Any) -> None:
    running = RunningServer(tmp_path)
    try:
        children = running.children()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        for child in children:
            child.wait(10)
    finally:
        running.close()
