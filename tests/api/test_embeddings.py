from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from hookline.messages.requests import PoolingRequest
from hookline.testkit.fake_serving import ADAPTER, MAX_MODEL_LEN, MODEL, FakeServing, Reply
from hookline.testkit.in_process import http
from tests.factories.fake_serving import make_app

_VECTOR = [0.5, -0.25, 1.0]


async def _embed(serving: FakeServing, status: int = 200, **body: Any) -> Any:
    async with http(make_app(serving)) as client:
        answer = await client.post("/v1/embeddings", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("value", "lengths"), [("abc", [3]), (["a", "bc"], [1, 2]), ([1, 2], [2]), ([[1], [2, 3]], [1, 2])]
)
async def test_each_input_has_its_vector(value: Any, lengths: list[int]) -> None:
    serving = FakeServing(replies=[Reply(embedding=[*_VECTOR, float(number)]) for number in range(2)])
    answer = await _embed(serving, input=value, model=MODEL, dimensions=4)
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": [*_VECTOR, float(index)]}
            for index in range(len(lengths))
        ],
        "model": MODEL,
        "usage": {"prompt_tokens": sum(lengths), "total_tokens": sum(lengths)},
    }
    assert all(request.pooling == PoolingRequest(dimensions=4) for request in serving.requests)
    assert all(request.sampling_params.max_new_tokens == 0 for request in serving.requests)


async def test_base64_is_little_endian_float32() -> None:
    serving = FakeServing(replies=[Reply(embedding=_VECTOR)])
    answer = await _embed(serving, input="a", encoding_format="base64")
    raw = base64.b64decode(answer["data"][0]["embedding"])
    assert list(struct.unpack("<3f", raw)) == _VECTOR


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "model": "other"}, 404, "model"),
    ],
)
async def test_bad_embedding_requests_name_the_field(body: dict[str, Any], status: int, param: str) -> None:
    assert (await _embed(FakeServing(), status, **body))["error"]["param"] == param


async def test_models_are_listed_and_found_by_name() -> None:
    async with http(make_app()) as client:
        listed = (await client.get("/v1/models")).json()
        assert listed["object"] == "list"
        assert listed["data"] == [
            {
                "id": MODEL,
                "object": "model",
                "created": 1,
                "owned_by": "hookline",
                "root": "/models/fake",
                "parent": None,
                "max_model_len": MAX_MODEL_LEN,
            },
            {
                "id": ADAPTER,
                "object": "model",
                "created": 2,
                "owned_by": "hookline",
                "root": "/adapters/fake",
                "parent": MODEL,
                "max_model_len": MAX_MODEL_LEN,
            },
        ]
        for card in listed["data"]:
            assert (await client.get(f"/v1/models/{card['id']}")).json() == card
        missing = await client.get("/v1/models/org/name")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        assert "org/name" in missing.json()["error"]["message"]
