from __future__ import annotations

from typing import Any

import pytest

from hookline.errors import RequestError
from hookline.messages.outputs import FinishReason
from hookline.messages.requests import LogprobRequest, PoolingRequest
from hookline.testkit.api_calls import read_events
from hookline.testkit.fake_serving import ADAPTER, END_ID, MAX_MODEL_LEN, FakeServing, Reply, refuse
from hookline.testkit.in_process import http
from tests.factories.fake_serving import make_app


async def _post(serving: FakeServing, path: str, body: dict[str, Any], status: int = 200) -> Any:
    async with http(make_app(serving)) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


# --- /generate ---


async def test_generate_answers_with_text_ids_and_counts() -> None:
    serving = FakeServing()
    item = await _post(serving, "/generate", {"text": "Hi", "sampling_params": {"temperature": 0}})
    meta = item.pop("meta_info")
    assert item == {"text": "Hello there.", "output_ids": [*b"Hello there.", END_ID]}
    assert meta.pop("e2e_latency") > 0
    assert meta == {
        "id": serving.requests[0].rid,
        "finish_reason": {"type": "stop", "matched": END_ID},
        "prompt_tokens": 2,
        "completion_tokens": 13,
        "cached_tokens": 2,
        "total_retractions": 0,
        "queue_time": 0.0,
    }
    request = serving.requests[0]
    assert (request.prompt, request.input_ids) == ("Hi", None)
    assert request.sampling_params.temperature == 0
    assert request.sampling_params.max_new_tokens == 128, "the native API's own default"


async def test_generate_takes_token_ids_and_every_option() -> None:
    serving = FakeServing()
    await _post(
        serving,
        "/generate",
        {
            "input_ids": [1, 2, 3],
            "rid": "mine",
            "lora_path": ADAPTER,
            "priority": 5,
            "cache_salt": "s",
            "extra_key": "k",
            "sampling_params": {"max_new_tokens": None, "sampling_seed": 7, "stop": ["x"]},
        },
    )
    (request,) = serving.requests
    assert (request.prompt, request.input_ids, request.rid, request.model) == (None, [1, 2, 3], "mine", ADAPTER)
    assert (request.priority, request.cache_salt, request.extra_key) == (5, "s", "k")
    assert (request.sampling_params.max_new_tokens, request.sampling_params.seed) == (None, 7)


async def test_generate_answers_a_list_with_a_list_choices_of_one_prompt_together() -> None:
    serving = FakeServing(replies=[Reply(text=text) for text in ("a0", "a1", "b0", "c0", "c1")])
    items = await _post(
        serving,
        "/generate",
        {
            "text": ["a", "b", "c"],
            "rid": ["ra", "rb", "rc"],
            "sampling_params": [{"n": 2}, {"temperature": 0.5}, {"n": 2}],
            "lora_path": [None, ADAPTER, None],
        },
    )
    assert [(item["meta_info"]["id"], item["text"]) for item in items] == [
        ("ra", "a0"),
        ("ra", "a1"),
        ("rb", "b0"),
        ("rc", "c0"),
        ("rc", "c1"),
    ]
    assert [request.model for request in serving.requests] == [None, ADAPTER, None]


@pytest.mark.parametrize("body", [{"text": ["a"]}, {"input_ids": [[97]]}])
async def test_a_list_of_one_is_a_list(body: dict[str, Any]) -> None:
    assert [item["text"] for item in await _post(FakeServing(), "/generate", body)] == ["Hello there."]


async def test_streamed_text_and_ids_grow_to_the_whole_answer() -> None:
    serving = FakeServing(replies=[Reply(text="Grüße 👋")])
    async with http(make_app(serving)) as client:
        events = read_events(await client.post("/generate", json={"text": "a", "stream": True}))
    assert [event["text"] for event in events] == ["Grüße 👋"[:end] for end in range(1, 8)]
    assert all("index" not in event for event in events)
    assert [event["meta_info"]["finish_reason"] for event in events[:-1]] == [None] * 6
    assert events[-1]["meta_info"]["finish_reason"]["type"] == "stop"
    assert events[-1]["output_ids"] == [*"Grüße 👋".encode(), END_ID]


async def test_streamed_choices_of_several_prompts_carry_their_index() -> None:
    serving = FakeServing(replies=[Reply(text=text) for text in ("a0", "a1", "b0")])
    body = {"text": ["a", "b"], "stream": True, "sampling_params": [{"n": 2}, {}]}
    async with http(make_app(serving)) as client:
        events = read_events(await client.post("/generate", json=body))
    assert {event["index"]: event["text"] for event in events} == {0: "a0", 1: "a1", 2: "b0"}


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_are_triples(stream: bool) -> None:
    serving = FakeServing(replies=[Reply(text="ok")])
    body = {
        "text": "abc",
        "stream": stream,
        "return_logprob": True,
        "logprob_start_len": 1,
        "top_logprobs_num": 2,
        "token_ids_logprob": [5],
        "return_text_in_logprobs": True,
    }
    async with http(make_app(serving)) as client:
        answer = await client.post("/generate", json=body)
    item = read_events(answer)[-1] if stream else answer.json()
    meta = item["meta_info"]
    assert meta["output_token_logprobs"] == [[-0.111, 111, "o"], [-0.107, 107, "k"], [-0.256, 256, "<|end|>"]]
    assert meta["output_top_logprobs"][0] == [[-0.111, 111, "o"], [-1.111, 112, "p"]]
    assert meta["output_token_ids_logprobs"] == [[[-5.0, 5, "\x05"]]] * 3
    assert meta["input_token_logprobs"] == [[-0.098, 98, "b"], [-0.099, 99, "c"]]
    assert serving.requests[0].logprobs == LogprobRequest(top=2, token_ids=(5,), input_start=1)


async def test_log_probabilities_may_differ_by_prompt() -> None:
    serving = FakeServing()
    items = await _post(
        serving,
        "/generate",
        {
            "text": ["a", "b"],
            "return_logprob": [True, False],
            "token_ids_logprob": [[1], [2]],
            "top_logprobs_num": [0, 3],
        },
    )
    assert [request.logprobs for request in serving.requests] == [LogprobRequest(token_ids=(1,)), None]
    assert items[0]["meta_info"]["input_token_logprobs"] == []
    assert items[0]["meta_info"]["output_token_logprobs"][0] == [-0.072, 72, None]
    assert "output_top_logprobs" not in items[0]["meta_info"]
    assert "output_token_logprobs" not in items[1]["meta_info"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": "a", "input_ids": [1]}, "text"),
        ({"text": []}, "text"),
        ({"input_ids": []}, "input_ids"),
        ({"input_ids": [[1], []]}, "input_ids"),
        ({"input_ids": [1, "a"]}, "input_ids"),
        ({"text": "a", "sampling_params": {"temprature": 1}}, "temprature"),
        ({"text": "a", "sampling_params": {"top_p": 2}}, "top_p"),
        ({"text": "a", "sampling_params": {"stop": ["x"] * 10_000}}, "stop"),
        ({"text": ["a", "b"], "sampling_params": [{}]}, "sampling_params"),
        ({"text": ["a", "b"], "rid": "one"}, "rid"),
        ({"text": ["a", "b"], "rid": ["one"]}, "rid"),
        ({"text": "a", "return_logprob": True, "logprob_start_len": -2}, "logprob_start_len"),
    ],
)
async def test_bad_generate_requests_name_the_field(body: dict[str, Any], param: str) -> None:
    serving = FakeServing()
    assert (await _post(serving, "/generate", body, 400))["error"]["param"] == param
    assert not serving.requests


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_one_prompt_is_the_requests_and_ends_the_others(stream: bool) -> None:
    error = {"message": "no room", "param": "text", "code": "context_length_exceeded"}
    serving = FakeServing(replies=[Reply(break_after=0), refuse(**error)])
    answer = await _post(serving, "/generate", {"text": ["a", "b"], "stream": stream, "rid": ["ra", "rb"]}, 400)
    assert answer["error"] == {"type": "invalid_request_error", **error}
    assert sorted(map(str, serving.aborted)) == ["ra", "rb"]


async def test_a_choice_that_was_aborted_on_purpose_is_an_answer() -> None:
    finish = FinishReason(type="abort", message="aborted by the client", status_code=499, code="aborted")
    item = await _post(FakeServing(replies=[Reply(text="so far", finish=finish)]), "/generate", {"text": "a"})
    assert item["text"] == "so far"
    assert item["meta_info"]["finish_reason"] == {
        "type": "abort",
        "message": "aborted by the client",
        "status_code": 499,
        "err_type": "aborted",
    }


async def test_length_tells_how_long() -> None:
    item = await _post(FakeServing(), "/generate", {"text": "a", "sampling_params": {"max_new_tokens": 5}})
    assert item["meta_info"]["finish_reason"] == {"type": "length", "length": 5}


# --- /encode, tokens ---


async def test_encode_gives_one_vector_or_a_list() -> None:
    serving = FakeServing(replies=[Reply(embedding=[0.5, -1.0])])
    item = await _post(serving, "/encode", {"text": "abc", "pooling": "mean", "normalize": False, "dimensions": 2})
    assert item["embedding"] == [0.5, -1.0]
    assert item["meta_info"]["prompt_tokens"] == 3
    assert serving.requests[0].pooling == PoolingRequest(pooling="mean", normalize=False, dimensions=2)
    items = await _post(serving, "/encode", {"input_ids": [[1], [2, 3]]})
    assert [item["meta_info"]["prompt_tokens"] for item in items] == [1, 2]


@pytest.mark.parametrize("name", ["prompt", "text"])
async def test_tokenize_mirrors_text_and_lists(name: str) -> None:
    serving = FakeServing()
    one = {"tokens": [97, 98], "count": 2, "max_model_len": MAX_MODEL_LEN}
    assert await _post(serving, "/tokenize", {name: "ab"}) == one
    many = {"tokens": [[97, 98], []], "count": [2, 0], "max_model_len": MAX_MODEL_LEN}
    assert await _post(serving, "/tokenize", {name: ["ab", ""]}) == many
    assert (await _post(serving, "/tokenize", {}, 400))["error"]["param"] == "prompt"


@pytest.mark.parametrize("name", ["tokens", "input_ids"])
async def test_detokenize_mirrors_ids_and_lists(name: str) -> None:
    serving = FakeServing()
    assert await _post(serving, "/detokenize", {name: [97, END_ID]}) == {"text": "a"}
    body = {name: [[97, END_ID], []], "skip_special_tokens": False}
    assert await _post(serving, "/detokenize", body) == {"text": ["a<|end|>", ""]}
    assert await _post(serving, "/detokenize", {name: []}) == {"text": ""}
    assert (await _post(serving, "/detokenize", {}, 400))["error"]["param"] == "tokens"


# --- control ---


async def test_abort_request_passes_the_exact_id() -> None:
    serving = FakeServing()
    assert await _post(serving, "/abort_request", {"rid": "r1"}) == {"success": True, "num_aborted": 1}
    assert await _post(serving, "/abort_request", {"abort_all": True}) == {"success": True, "num_aborted": 1}
    assert (await _post(serving, "/abort_request", {}, 400))["error"]["param"] == "rid"
    assert serving.abort_calls == [("r1", False), (None, True)]


@pytest.mark.parametrize(
    ("path", "body", "call"),
    [
        ("/flush_cache", None, ("flush_cache", {})),
        ("/update_weights_from_disk", {"model_path": "/m"}, ("update_weights", {"path": "/m"})),
        ("/release_memory_occupation", None, ("release_memory", {"tags": ["kv", "weights"]})),
        ("/release_memory_occupation", {"tags": ["kv_cache"]}, ("release_memory", {"tags": ["kv"]})),
        ("/release_memory_occupation", {"tags": ["weights"]}, ("release_memory", {"tags": ["weights"]})),
        ("/resume_memory_occupation", {}, ("resume_memory", {"tags": ["kv", "weights"]})),
    ],
)
async def test_control_routes_ask_the_engine(
    path: str, body: dict[str, Any] | None, call: tuple[str, dict[str, Any]]
) -> None:
    serving = FakeServing(controls={call[0]: {"message": "done", "num_tokens": 3}})
    async with http(make_app(serving)) as client:
        answer = await client.post(path, json=body) if body is not None else await client.post(path)
    assert answer.json() == {"success": True, "message": "done", "num_tokens": 3}
    assert serving.control_calls == [call]


async def test_a_control_request_that_the_engine_refuses_is_an_error() -> None:
    serving = FakeServing(controls={"flush_cache": RequestError("2 requests are running", code="control_failed")})
    answer = await _post(serving, "/flush_cache", {}, 400)
    assert answer["error"]["message"] == "2 requests are running"


async def test_weights_need_a_path() -> None:
    assert (await _post(FakeServing(), "/update_weights_from_disk", {}, 400))["error"]["param"] == "model_path"


# --- state ---


async def test_state_routes() -> None:
    serving = FakeServing()
    async with http(make_app(serving)) as client:
        assert (await client.get("/live")).json() == {"status": "ok"}
        assert (await client.get("/ready")).json() == {"ready": True, "reason": ""}
        assert (await client.get("/health")).json() == {"healthy": True, "reason": ""}
        metrics = await client.get("/metrics")
        assert (metrics.text, metrics.headers["content-type"]) == ("hookline_up 1\n", "text/plain; version=0.0.4")
        assert (await client.get("/server_info")).json() == {"model": "fake-model"}
        assert (await client.get("/plugins")).json() == {"chosen": [], "plugins": []}
        serving.ready = (False, "loading weights")
        serving.healthy = (False, "no step for 61 s")
        for path, reason in (("/ready", "loading weights"), ("/health", "no step for 61 s")):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["reason"]) == (503, reason)
        assert (await client.get("/live")).status_code == 200
