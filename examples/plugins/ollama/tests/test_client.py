"""A whole server with the demo model, driven by Ollama's own Python client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

_CONFIG = Path(__file__).parents[1] / "hookline.toml"
_GREEDY: dict[str, Any] = {"temperature": 0, "num_predict": 32}
_HI = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ollama.Client]:
    errors = tmp_path_factory.mktemp("server") / "stderr"
    command = [sys.executable, "-m", "hookline", "serve", "--config", str(_CONFIG), "--port", "0"]
    command += ["--device", "cpu"]
    with errors.open("wb") as stderr, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr) as server:
        assert server.stdout is not None
        said = iter(server.stdout.readline, b"")
        urls = (word for line in said for word in line.decode().split() if word.startswith("http://"))
        url = next(urls, None)
        try:
            assert url is not None, errors.read_text()
            with ollama.Client(url) as client:
                yield client
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def model(client: ollama.Client) -> str:
    name = client.list().models[0].model
    assert name is not None
    return name


def test_models_are_listed_and_shown(client: ollama.Client, model: str) -> None:
    assert client.ps().models[0].model == model
    shown = client.show(model)
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["hookline.context_length"] > 0


def test_chat_is_the_same_whole_and_streamed(client: ollama.Client, model: str) -> None:
    whole = client.chat(model, _HI, options=_GREEDY, think=False)
    assert whole.message.content
    assert whole.done_reason in ("stop", "length")
    *pieces, last = client.chat(model, _HI, options=_GREEDY, think=False, stream=True)
    assert len(pieces) > 1
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert (last.done, last.eval_count, last.prompt_eval_count) == (True, whole.eval_count, whole.prompt_eval_count)
    assert last.eval_duration


def test_thinking_comes_apart(client: ollama.Client, model: str) -> None:
    answer = client.chat(model, _HI, options={"temperature": 0, "num_predict": 256}, think=True)
    assert answer.message.thinking
    assert "<think>" not in (answer.message.content or "")


def test_generate_through_the_template_and_raw(client: ollama.Client, model: str) -> None:
    whole = client.generate(model, "Count to five.", options=_GREEDY, think=False)
    pieces = client.generate(model, "Count to five.", options=_GREEDY, think=False, stream=True)
    assert "".join(piece.response or "" for piece in pieces) == whole.response
    raw = client.generate(model, "Once upon a time", raw=True, options={"temperature": 0, "num_predict": 4})
    assert (raw.eval_count, raw.done_reason) == (4, "length")
    assert raw.prompt_eval_count is not None
    assert whole.prompt_eval_count is not None
    assert raw.prompt_eval_count < whole.prompt_eval_count


def test_a_schema_holds(client: ollama.Client, model: str) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    answer = client.chat(model, _HI, format=schema, options=_GREEDY)
    assert (answer.message.content or "").replace(" ", "").replace("\n", "") in ('{"n":1}', '{"n":2}')


def test_a_python_function_is_a_tool(client: ollama.Client, model: str) -> None:
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: Name of the city.
        """
        return f"sunny in {city}"

    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    options = {"temperature": 0, "num_predict": 256}
    answer = client.chat(model, messages, tools=[get_weather], options=options, think=False)
    assert answer.message.tool_calls, answer.message.content
    call = answer.message.tool_calls[0].function
    assert (call.name, dict(call.arguments)) == ("get_weather", {"city": "Paris"})
    result = {"role": "tool", "tool_name": call.name, "content": get_weather(**call.arguments)}
    final = client.chat(model, [*messages, answer.message, result], tools=[get_weather], options=options, think=False)
    assert final.message.content


def test_errors_are_the_clients_own(client: ollama.Client, model: str) -> None:
    with pytest.raises(ollama.ResponseError, match="the model 'llama3' is not served here") as missing:
        client.chat("llama3", _HI)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="temperature must be") as bad:
        next(client.chat(model, _HI, options={"temperature": -1}, stream=True))
    assert bad.value.status_code == 400
    picture: list[Any] = [{"role": "user", "content": "What is this?", "images": ["aGVsbG8="]}]
    with pytest.raises(ollama.ResponseError, match=r"messages\[0\]\.images\[0\]: it is no picture"):
        client.chat(model, picture)
