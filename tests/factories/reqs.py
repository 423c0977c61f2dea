"""Requests without a scheduler around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hookline.messages.requests import CacheNamespace, LogprobRequest, TokenizedRequest
from hookline.sampling_params import SamplingParams
from hookline.scheduler.req import Req


def make_req(
    rid: str = "a",
    prompt: Sequence[int] = (5, 6, 7),
    *,
    arrival: int = 0,
    priority: int = 0,
    max_new_tokens: int = 8,
    page_size: int = 1,
    logprobs: LogprobRequest | None = None,
    **params: Any,
) -> Req:
    """A request as the intake makes it."""
    request = TokenizedRequest(
        rid=rid,
        input_ids=list(prompt),
        sampling_params=SamplingParams(max_new_tokens=max_new_tokens, **params),
        logprobs=logprobs,
    )
    return Req(
        request=request,
        arrival=arrival,
        priority=priority,
        max_new_tokens=max_new_tokens,
        page_size=page_size,
        end_ids=frozenset(),
        namespace=CacheNamespace(),
    )
