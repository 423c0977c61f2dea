"""What a policy or scheduler sees, made of numbers: a queue, running requests, and a cache whose answers are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hookline.interfaces.scheduling import PrefixMatch, RunningReq, WaitingReq

#: Node id of the root in ``PrefixMatch.path``.
ROOT = 1


@dataclass(slots=True)
class FakeReq:
    """Satisfies ``WaitingReq`` and ``RunningReq`` with whatever a test says.

    Without ``token_ids`` the request has tokens of its own, that no request of another arrival begins with.
    """

    rid: str
    arrival: int = 0
    #: Follows from ``token_ids`` where these are given.
    num_prompt_tokens: int = 10
    num_output_tokens: int = 0
    max_new_tokens: int = 16
    priority: int = 0
    #: Tokens of the request that the cache holds, unless ``FakeView.matches`` says more.
    num_cached_tokens: int = 0
    ignore_eos: bool = False
    adapter: str | None = None
    namespace: object = ""
    seq_len: int = 0
    num_pending_prefill: int = 0
    num_owned_slots: int = 0
    #: [num_tokens], read-only.
    token_ids: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, dtype=np.int64), compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if len(self.token_ids):
            self.num_prompt_tokens = len(self.token_ids) - self.num_output_tokens
        else:
            self.token_ids = np.arange(self.num_tokens, dtype=np.int64) + 1000 * self.arrival
        self.token_ids.flags.writeable = False

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens

    @property
    def max_cached_tokens(self) -> int:
        return self.num_tokens - 1


@dataclass(slots=True)
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
    #: rid -> what the cache holds; of others, what ``FakeReq.num_cached_tokens`` says.
    matches: Mapping[str, PrefixMatch] = field(default_factory=dict)
    #: Requests that were looked up in the cache.
    asked: list[str] = field(default_factory=list)

    def match(self, req: WaitingReq) -> PrefixMatch:
        self.asked.append(req.rid)
        if not self.has_prefix_cache:
            return PrefixMatch(num_cached_tokens=0)
        found = self.matches.get(req.rid)
        if found is not None:
            return found
        num_cached = req.num_cached_tokens if isinstance(req, FakeReq) else 0
        path = (ROOT, ROOT + 1 + req.arrival) if num_cached else (ROOT,)
        return PrefixMatch(num_cached_tokens=num_cached, path=path)

    def decode_slots_needed(self) -> int:
        return sum(self.page_size for req in self.running if req.seq_len % self.page_size == 0)
