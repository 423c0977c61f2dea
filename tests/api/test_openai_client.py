"""The official client against a real server over a scripted engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from hookline.errors import RequestError
from hookline.messages.outputs import FinishReason
from hookline.testkit.fake_serving import ADAPTER, MODEL, Reply, refuse
from tests.factories.fake_serving import ChatServing, make_app
from tests.factories.http_server import running_server

_HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
_TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
]
_CALL = 'Wait.\n<tool_call>\n{"name": "now", "arguments": {"zone": "é"}}\n</tool_call>'


@contextmanager
def _connect(*replies: Reply, key: str = "user-key", **server: Any) -> Iterator[tuple[openai.OpenAI, ChatServing]]:
    serving = ChatServing(replies=list(replies) or [Reply()])
    with (
        running_server(make_app(serving, **server)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20) as client,
    ):
        yield client, serving


def test_chat() -> None:
    with _connect() as (client, _):
        answer = client.chat.completions.create(model=MODEL, messages=_HI)
    assert answer.choices[0].message.content == "Hello there."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (13, 2)


def test_streamed_chat_with_usage() -> None:
    with _connect(Reply(text="Grüße 👋")) as (client, _):
        stream = client.chat.completions.create(
            model=MODEL, messages=_HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Grüße 👋"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 13


def test_choices_and_stop() -> None:
    with _connect(Reply(text="one END two"), Reply(text="three")) as (client, _):
        answer = client.chat.completions.create(model=MODEL, messages=_HI, n=2, stop=["END"], seed=1)
    assert [choice.message.content for choice in answer.choices] == ["one ", "three"]


def test_reasoning() -> None:
    with _connect(Reply(text="<think>\nhm\n</think>\n\nanswer")) as (client, _):
        message = client.chat.completions.create(model=MODEL, messages=_HI).choices[0].message
    assert message.content == "answer"
    assert message.model_dump()["reasoning_content"] == "hm"


def test_log_probabilities() -> None:
    with _connect(Reply(text="é")) as (client, _):
        answer = client.chat.completions.create(model=MODEL, messages=_HI, logprobs=True, top_logprobs=2)
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    first = answer.choices[0].logprobs.content[0]
    assert (first.bytes, len(first.top_logprobs)) == ([0xC3], 2)


def test_tool_calls() -> None:
    with _connect(Reply(text=_CALL)) as (client, _):
        choice = client.chat.completions.create(model=MODEL, messages=_HI, tools=_TOOLS).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Wait.", "tool_calls")
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("now", '{"zone": "é"}')


def test_streamed_tool_calls_accumulate_as_the_client_does_it() -> None:
    with (
        _connect(Reply(text=_CALL)) as (client, _),
        client.chat.completions.stream(model=MODEL, messages=_HI, tools=_TOOLS) as stream,
    ):
        choice = stream.get_final_completion().choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Wait.", "tool_calls")
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.id.startswith("call_")
    assert (call.function.name, call.function.arguments) == ("now", '{"zone": "é"}')


def test_required_tools() -> None:
    with _connect(Reply(text='<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')) as (client, _):
        choice = client.chat.completions.create(
            model=MODEL, messages=_HI, tools=_TOOLS, tool_choice="required"
        ).choices[0]
    assert choice.message.tool_calls is not None
    assert choice.finish_reason == "tool_calls"


def test_completions_with_echo_and_log_probabilities() -> None:
    with _connect(Reply(text="ok")) as (client, _):
        answer = client.completions.create(model=MODEL, prompt="ab", echo=True, logprobs=1, max_tokens=8)
    choice = answer.choices[0]
    assert choice.text == "abok"
    assert choice.logprobs is not None
    assert choice.logprobs.text_offset == [0, 1, 2, 3, 4]


def test_streamed_completions() -> None:
    with _connect(Reply(text="abc")) as (client, _):
        stream = client.completions.create(model=MODEL, prompt=["x"], stream=True)
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "abc"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_embeddings() -> None:
    # The client asks for base64 by itself and decodes it.
    with _connect(Reply(embedding=[0.5, -1.0])) as (client, _):
        answer = client.embeddings.create(model=MODEL, input=["a", "b"])
    assert [item.embedding for item in answer.data] == [[0.5, -1.0]] * 2


def test_models() -> None:
    with _connect() as (client, _):
        assert [model.id for model in client.models.list()] == [MODEL, ADAPTER]
        assert client.models.retrieve(ADAPTER).owned_by == "hookline"
        with pytest.raises(openai.NotFoundError, match="not served here"):
            client.models.retrieve("other")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (refuse("bad", param="stop"), openai.BadRequestError),
        (refuse("gone", status_code=404), openai.NotFoundError),
        (refuse("full", status_code=503), openai.InternalServerError),
        (Reply(error=KeyError("x")), openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_raised_as_the_clients_own(reply: Reply, error: type[openai.APIStatusError], stream: bool) -> None:
    with _connect(reply) as (client, _), pytest.raises(error):
        client.chat.completions.create(model=MODEL, messages=_HI, stream=stream)


def test_error_objects_reach_the_client() -> None:
    with _connect(refuse("bad", param="stop", code="invalid_request")) as (client, _):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=_HI)
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="other", messages=_HI)
    assert (caught.value.param, caught.value.code, caught.value.type) == (
        "stop",
        "invalid_request",
        "invalid_request_error",
    )
    assert missing.value.code == "model_not_found"


def test_an_error_in_a_stream_is_raised_where_it_happened() -> None:
    with _connect(Reply(break_after=2, failure=RequestError("the engine ended"))) as (client, _):
        stream = client.chat.completions.create(model=MODEL, messages=_HI, stream=True)
        texts = []

        def read() -> None:
            for chunk in stream:
                texts.append(chunk.choices[0].delta.content)

        with pytest.raises(openai.APIError, match="the engine ended"):
            read()
    assert "".join(filter(None, texts)) == "He"


def test_keys() -> None:
    with _connect(api_key="user-key") as (client, _):
        client.models.list()
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="other").models.list()


def _wait_for(condition: Callable[[], bool]) -> None:
    """Fails after a time that no working server needs."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_closing_a_stream_aborts_every_choice() -> None:
    with _connect(Reply(text="abc", break_after=2)) as (client, serving):
        stream = client.chat.completions.create(model=MODEL, messages=_HI, stream=True, n=2, extra_body={"rid": "mine"})
        next(iter(stream))
        stream.close()
        _wait_for(lambda: serving.aborted == ["mine"])


def test_a_client_that_gives_up_waiting_aborts_its_request() -> None:
    with _connect(Reply(break_after=0)) as (client, serving):
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.2).completions.create(
                model=MODEL, prompt=["a", "b"], extra_body={"rid": "mine"}
            )
        _wait_for(lambda: sorted(map(str, serving.aborted)) == ["mine-0", "mine-1"])


def test_extension_fields_and_ignored_fields() -> None:
    with _connect(Reply(finish=FinishReason(type="length"))) as (client, serving):
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=_HI, extra_body={"top_k": 5, "mirostat": 2}
        )
    assert serving.requests[0].sampling_params.top_k == 5
    assert raw.headers["x-hookline-ignored-fields"] == "mirostat"
    assert raw.headers["x-request-id"]
