"""Requests without a scheduler around them, and a view of a queue that a test makes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hookline.interfaces.scheduling import PrefixMatch, RunningReq, WaitingReq
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


@dataclass
class FakeReq:
    """Satisfies ``WaitingReq`` and ``RunningReq`` with whatever a test says."""

    rid: str
    arrival: int = 0
    priority: int = 0
    token_ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.arange(10, dtype=np.int64))
    num_output_tokens: int = 0
    max_new_tokens: int = 16
    ignore_eos: bool = False
    adapter: str | None = None
    namespace: object = ""
    seq_len: int = 0
    num_pending_prefill: int = 0
    num_owned_slots: int = 0

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_prompt_tokens(self) -> int:
        return self.num_tokens - self.num_output_tokens

    @property
    def max_cached_tokens(self) -> int:
        return self.num_tokens - 1


@dataclass
class FakeView:
    """Satisfies ``SchedulerView``."""

    waiting: Sequence[WaitingReq] = ()
    running: Sequence[RunningReq] = ()
    chunked: RunningReq | None = None
    num_free_rows: int = 100
    num_free_slots: int = 1000
    num_evictable_slots: int = 0
    num_total_slots: int = 1000
    num_releasing: int = 0
    page_size: int = 1
    has_prefix_cache: bool = True
    #: rid -> what the cache holds.
    matches: Mapping[str, PrefixMatch] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def match(self, req: WaitingReq) -> PrefixMatch:
        self.asked.append(req.rid)
        return self.matches.get(req.rid, PrefixMatch(num_cached_tokens=0, path=(1,)))

    def decode_slots_needed(self) -> int:
        return sum(self.page_size for req in self.running if req.seq_len % self.page_size == 0)
