"""``/v1/embeddings``."""

from __future__ import annotations

import base64
import struct
import uuid
from contextlib import aclosing
from typing import Any

from hookline.api.choice import Choice
from hookline.api.tasks import side_by_side
from hookline.errors import RequestError
from hookline.interfaces.api import GenerateRequest, Serving
from hookline.messages.requests import PoolingRequest
from hookline.sampling_params import SamplingParams
from hookline_api.openai.bodies import EmbeddingBody
from hookline_api.prompts import read_prompts


async def embed(serving: Serving, body: EmbeddingBody) -> dict[str, Any]:
    """The list of embeddings, in the order of the inputs."""
    requests = _engine_requests(body)
    choices = [Choice() for _ in requests]
    async with aclosing(side_by_side([serving.generate(request) for request in requests])) as chunks:
        async for number, chunk in chunks:
            choices[number].add(chunk)
    num_tokens = sum(choice.stats.prompt_tokens for choice in choices)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _encode(choice.embedding, body.encoding_format)}
            for index, choice in enumerate(choices)
        ],
        "model": body.model or serving.models()[0].id,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


def check_embedding(serving: Serving, body: EmbeddingBody) -> None:
    """Raises ``RequestError`` for what can be told before the engine is asked."""
    serving.check_model(body.model)
    if body.encoding_format not in ("float", "base64"):
        raise RequestError(
            f"encoding_format must be 'float' or 'base64', not {body.encoding_format!r:.40}", param="encoding_format"
        )


def _engine_requests(body: EmbeddingBody) -> list[GenerateRequest]:
    prompts, _ = read_prompts(body.input, field="input")
    ident = body.rid or f"embd-{uuid.uuid4().hex}"
    return [
        GenerateRequest(
            prompt=prompt if isinstance(prompt, str) else None,
            input_ids=None if isinstance(prompt, str) else prompt,
            sampling_params=SamplingParams(max_new_tokens=0),
            rid=ident if len(prompts) == 1 else f"{ident}-{number}",
            model=body.model,
            pooling=PoolingRequest(dimensions=body.dimensions),
            priority=body.priority,
            cache_salt=body.cache_salt,
            extra_key=body.extra_key,
        )
        for number, prompt in enumerate(prompts)
    ]


def _encode(vector: list[float], encoding: str) -> list[float] | str:
    """Numbers, or little-endian float32 in base64."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
