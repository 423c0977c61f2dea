"""Schedulers and schedule policies: decide who runs; core carries it out and keeps the ledger.

All answers must be the same on every rank: no clock, no randomness but the seed given, no I/O.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSpec(Spec):
    """A batch scheduler. ``target`` is a subclass of ``BatchScheduler``, called with a ``SchedulerEnv``."""

    kind: ClassVar[str] = "schedulers"
    target_base: ClassVar[str] = "hookline.interfaces.scheduling:BatchScheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePolicySpec(Spec):
    """An order of the waiting queue. ``target`` is a subclass of ``SchedulePolicy``, called with a seed."""

    kind: ClassVar[str] = "schedule_policies"
    target_base: ClassVar[str] = "hookline.interfaces.scheduling:SchedulePolicy"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixMatch:
    """What the prefix cache holds of a request's tokens."""

    #: Tokens that need not be computed (whole pages).
    num_cached_tokens: int
    #: Cache nodes on the path that nobody locks yet: node id -> tokens. Admission protects them, so they
    #: leave the evictable total; count each node once when several candidates share it.
    unlocked: Mapping[int, int] = field(default_factory=dict)
    #: Ids of the nodes from the root to the deepest match, for tree-ordered policies.
    path: tuple[int, ...] = ()


class WaitingReq(Protocol):
    """A waiting request, read-only."""

    @property
    def rid(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def arrival(self) -> int:
        """Order of arrival; kept over retraction."""

    @property
    def num_tokens(self) -> int:
        """Prompt plus output so far: what a prefill must cover."""

    @property
    def max_cached_tokens(self) -> int:
        """A cached prefix is used up to here: at least one token is always computed, more when prompt
        log-probabilities are asked for, all for some poolers (0)."""

    @property
    def num_prompt_tokens(self) -> int: ...
    @property
    def num_output_tokens(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def ignore_eos(self) -> bool: ...
    @property
    def adapter(self) -> str | None: ...
    @property
    def token_ids(self) -> npt.NDArray[np.int64]:
        """Prompt plus output so far, [num_tokens]; not to be changed."""

    @property
    def namespace(self) -> object:
        """Requests of different namespaces never share a prefix. Hashable."""


class RunningReq(WaitingReq, Protocol):
    """A request that holds a row, read-only."""

    @property
    def seq_len(self) -> int:
        """Tokens whose KV is there or being computed."""

    @property
    def num_pending_prefill(self) -> int:
        """Prompt tokens still to compute (a chunked request); 0 for one that decodes."""

    @property
    def num_owned_slots(self) -> int:
        """Slots outside the prefix cache that the request holds (whole pages): what retracting it makes
        available (free or evictable). So becomes its cached prefix, unless others use it too."""


class SchedulerView(Protocol):
    """What a scheduler sees. Every number is in tokens and right now."""

    @property
    def waiting(self) -> Sequence[WaitingReq]: ...
    @property
    def running(self) -> Sequence[RunningReq]:
        """Requests that decode, oldest first."""

    @property
    def chunked(self) -> RunningReq | None:
        """The request whose prefill is under way, if any."""

    @property
    def num_free_rows(self) -> int: ...
    @property
    def num_free_slots(self) -> int: ...
    @property
    def num_evictable_slots(self) -> int: ...
    @property
    def num_total_slots(self) -> int: ...
    @property
    def num_releasing(self) -> int:
        """Requests that give their slots back by themselves: the last token they may have is being computed,
        or somebody still reads their slots. An empty plan waits for them."""

    @property
    def page_size(self) -> int: ...
    @property
    def has_prefix_cache(self) -> bool: ...
    def match(self, req: WaitingReq) -> PrefixMatch:
        """What the cache holds of the request; cheap, changes nothing but access times."""

    def decode_slots_needed(self) -> int:
        """Slots that one decode step of all running requests takes (whole pages)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillItem:
    """Run ``num_tokens`` new tokens of a waiting or the chunked request (after its cached prefix)."""

    rid: str
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A waiting request that can never run."""

    rid: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What the next pass does.

    Core first retracts, then rejects, then runs: ``prefill`` alone is an extend; with ``decode`` too it is
    a mixed pass; ``decode`` alone is a decode of all running requests. An empty plan is idle. Not every
    attention backend can mix: do so only if ``config.enable_mixed_chunk`` is set, which demands the feature, or
    if the scheduler's spec imposes it (``imposes={"attention_backends": frozenset({"mixed"})}``).
    A plan that breaks the ledger (unknown rid, more tokens than left, too few slots) is refused with an
    error that names the scheduler; core never guesses.
    """

    prefill: Sequence[PrefillItem] = ()
    decode: bool = False
    #: Running (or chunked) requests that give their slots back and wait again, in the order to do it.
    retract: Sequence[str] = ()
    reject: Sequence[Rejection] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What became of a plan, after its results were processed."""

    mode: str
    num_retracted: int
    num_finished: int
    #: No request runs or waits now.
    is_idle: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerEnv:
    """Fixed facts, known when the scheduler is made."""

    policy: SchedulePolicy
    #: The ``schedule`` section of the config.
    config: Any
    max_running_requests: int
    max_total_tokens: int
    page_size: int
    #: Tokens of prefill per pass for one request; ``None``: no chunking.
    chunked_prefill_size: int | None
    #: Tokens of prefill per pass for all requests together; one that is alone in it may have more.
    max_prefill_tokens: int
    seed: int
    options: Any = None


class SchedulePolicy(ABC):
    """Orders the waiting queue. Pure: the same view gives the same order."""

    #: Reads ``view.match``; becomes arrival order when there is no prefix cache.
    cache_aware: ClassVar[bool] = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def order(self, view: SchedulerView) -> list[WaitingReq]:
        """All waiting requests, the next to run first."""


class BatchScheduler(ABC):
    """Decides what the next pass does. Called from the scheduler loop, once a pass; must not block."""

    def __init__(self, env: SchedulerEnv) -> None:
        self.env = env

    @abstractmethod
    def plan(self, view: SchedulerView) -> StepPlan:
        """The next pass. Under overlap the last pass may still run: its tokens are counted in ``seq_len``,
        its finished requests are still listed as running."""

    def on_result(self, report: StepReport) -> None:  # noqa: B027 - optional
        """The results of a pass were processed."""
