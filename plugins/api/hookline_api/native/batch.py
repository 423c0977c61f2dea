"""From a native request body to one engine request for each prompt."""

from __future__ import annotations

import uuid
from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.api import GenerateRequest, Serving
from hookline.messages.requests import LogprobRequest, PoolingRequest
from hookline.sampling_params import SamplingParams
from hookline_api.native.bodies import EncodeBody, GenerateBody, PromptBody
from hookline_api.native.media import prompt_media
from hookline_api.prompts import Prompt, read_texts, read_token_lists

_DEFAULT_MAX_NEW_TOKENS = 128
#: SGLang's names of parameters that are called otherwise here.
_ALIASES = {"sampling_seed": "seed"}


def generate_requests(body: GenerateBody, serving: Serving) -> tuple[list[GenerateRequest], bool]:
    """(requests, whether the body held a list). Raises ``RequestError`` for bad values and lengths."""
    prompts, is_batch = _prompts(body)
    count = len(prompts)
    return [
        _request(
            body,
            prompt,
            index,
            count,
            stream=body.stream,
            sampling_params=_sampling_params(_nth("sampling_params", body.sampling_params, index, count), serving),
            logprobs=_logprobs(body, index, count),
            media=prompt_media(body, index, count if is_batch else None),
        )
        for index, prompt in enumerate(prompts)
    ], is_batch


def encode_requests(body: EncodeBody) -> tuple[list[GenerateRequest], bool]:
    """(requests, whether the body held a list). Raises ``RequestError`` for bad values and lengths."""
    prompts, is_batch = _prompts(body)
    pooling = PoolingRequest(pooling=body.pooling, normalize=body.normalize, dimensions=body.dimensions)
    return [
        _request(body, prompt, index, len(prompts), sampling_params=SamplingParams(max_new_tokens=0), pooling=pooling)
        for index, prompt in enumerate(prompts)
    ], is_batch


def _prompts(body: PromptBody) -> tuple[list[Prompt], bool]:
    if (body.text is None) == (body.input_ids is None):
        raise RequestError("give either text or input_ids", param="text")
    found: list[Prompt]
    if body.text is not None:
        texts, is_batch = read_texts(body.text, field="text")
        found = list(texts)
    else:
        lists, is_batch = read_token_lists(body.input_ids, field="input_ids")
        found = list(lists)
    if not found or [] in found:
        raise RequestError(
            "text and input_ids must not be empty lists", param="text" if body.text is not None else "input_ids"
        )
    return found, is_batch


def _request(body: PromptBody, prompt: Prompt, index: int, count: int, **fields: Any) -> GenerateRequest:
    adapter = _nth("lora_path", body.lora_path, index, count)
    if isinstance(body.rid, str) and count > 1:
        raise RequestError(f"rid must be a list of {count} ids, one for each prompt", param="rid")
    return GenerateRequest(
        prompt=prompt if isinstance(prompt, str) else None,
        input_ids=None if isinstance(prompt, str) else prompt,
        rid=_nth("rid", body.rid, index, count) or uuid.uuid4().hex,
        model=body.model if adapter is None else adapter,
        priority=body.priority,
        cache_salt=body.cache_salt,
        extra_key=body.extra_key,
        **fields,
    )


def _nth(name: str, value: Any, index: int, count: int) -> Any:
    """The value for prompt ``index``: of a list its entry, anything else as it is."""
    if not isinstance(value, list):
        return value
    if len(value) != count:
        raise RequestError(f"{name} has {len(value)} entries for {count} prompts", param=name)
    return value[index]


def _sampling_params(values: dict[str, Any] | None, serving: Serving) -> SamplingParams:
    renamed = {_ALIASES.get(name, name): value for name, value in (values or {}).items()}
    return serving.default_sampling_params(renamed, max_new_tokens=_DEFAULT_MAX_NEW_TOKENS)


def _logprobs(body: GenerateBody, index: int, count: int) -> LogprobRequest | None:
    if not _nth("return_logprob", body.return_logprob, index, count):
        return None
    start = _nth("logprob_start_len", body.logprob_start_len, index, count)
    if start < -1:
        raise RequestError(f"logprob_start_len must be -1 (none) or at least 0, not {start}", param="logprob_start_len")
    ids: Any = body.token_ids_logprob or []
    if ids and isinstance(ids[0], list):
        ids = _nth("token_ids_logprob", ids, index, count)
    return LogprobRequest(
        top=_nth("top_logprobs_num", body.top_logprobs_num, index, count),
        token_ids=tuple(ids),
        input_start=None if start == -1 else start,
    )
