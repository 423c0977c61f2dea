"""Req: one request in the scheduler, from its arrival to its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from hookline.batch.worker_batch import LogprobSpec
    from hookline.cache.prefix_cache import CacheNode
    from hookline.interfaces.grammar import GrammarMatcher
    from hookline.messages.outputs import FinishReason, TokenLogprob
    from hookline.messages.requests import CacheNamespace, TokenizedRequest
    from hookline.sampling_params import SamplingParams
    from hookline.scheduler.adapters import Adapter
    from hookline.scheduler.req_media import ReqMedia
    from hookline.scheduler.stops import StopText

    IntArray = npt.NDArray[np.int64]


class ReqState(Enum):
    """Where a request stands."""

    #: Waits for its gates (a grammar that compiles), outside the queue.
    GATED = "gated"
    #: In the waiting queue: new, or retracted.
    WAITING = "waiting"
    #: Holds a row and slots; part of its prompt is still to compute.
    CHUNKED = "chunked"
    #: Decodes.
    RUNNING = "running"
    #: The last token it may have is being computed: nothing more is launched for it.
    FINISHING = "finishing"
    #: Ended, but somebody still reads its slots.
    HELD = "held"
    #: Ended, holds nothing.
    FINISHED = "finished"


@dataclass(slots=True, kw_only=True, eq=False)
class Req:
    """One choice of one prompt. Satisfies ``WaitingReq`` and ``RunningReq`` of the scheduler interface.

    ``KVLedger`` alone writes ``row``, ``node``, ``num_protected`` and ``seq_len``.
    """

    request: TokenizedRequest
    #: Order of arrival; kept over retraction.
    arrival: int
    #: Larger runs first.
    priority: int
    #: The asked number, lowered to what context and pool can hold.
    max_new_tokens: int
    page_size: int
    #: Tokens that end the request.
    end_ids: frozenset[int]
    namespace: CacheNamespace
    #: The pooler's name for an embedding request.
    pooling: str | None = None
    #: Whether a cached prefix may be used at all.
    reuses_prefix: bool = True
    lora: Adapter | None = None
    #: Pictures and the like; set by ``take_media`` before the request is let in.
    media: ReqMedia | None = None
    #: Output tokens that make a streamed chunk.
    stream_interval: int = 1

    state: ReqState = ReqState.WAITING
    output_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    #: Grows whenever the request leaves the batch: results of earlier passes are then not for it.
    epoch: int = 0

    # --- key-value state ---
    #: Row in the request-to-slot table.
    row: int | None = None
    #: Deepest node of the locked prefix.
    node: CacheNode | None = None
    #: Leading tokens whose slots belong to the prefix cache (whole pages).
    num_protected: int = 0
    #: Tokens whose KV is there or being computed.
    seq_len: int = 0
    #: Tokens that the prefill under way covers: prompt and output at the time of its start.
    prefill_len: int = 0

    # --- generation state ---
    matcher: GrammarMatcher | None = None
    stop_text: StopText | None = None
    #: What every decode step of the request asks of log-probabilities.
    decode_logprobs: LogprobSpec | None = None
    #: Not sent yet, one for each unsent output token but for those that are not scored.
    output_logprobs: list[TokenLogprob] = field(default_factory=list)
    #: Output tokens at the end that were not sampled and whose log-probabilities are still to come.
    num_unscored: int = 0
    input_logprobs: list[TokenLogprob] = field(default_factory=list)
    input_logprobs_sent: bool = False
    embedding: list[float] | None = None

    # --- what was sent, and figures ---
    num_sent: int = 0
    was_announced: bool = False
    cached_tokens: int = 0
    num_retractions: int = 0
    #: Whether it was ever given a row.
    has_started: bool = False
    #: Seconds from receipt to the first pass.
    queue_time: float = 0.0
    prompt_ids: IntArray = field(init=False)
    num_prompt_tokens: int = field(init=False)
    _token_ids: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.prompt_ids = np.asarray(self.request.input_ids, dtype=np.int64)
        self.num_prompt_tokens = len(self.prompt_ids)
        self._token_ids = self.prompt_ids

    def take_media(self, media: ReqMedia, keyed_ids: IntArray) -> None:
        """The request has media; ``keyed_ids`` is its prompt with an id of its own for each placeholder."""
        self.media = media
        self._token_ids = keyed_ids

    @property
    def rid(self) -> str:
        return self.request.rid

    @property
    def params(self) -> SamplingParams:
        return self.request.sampling_params

    @property
    def ignore_eos(self) -> bool:
        return self.request.sampling_params.ignore_eos

    @property
    def adapter(self) -> str | None:
        return self.request.lora

    @property
    def num_output_tokens(self) -> int:
        return len(self.output_ids)

    @property
    def num_sendable(self) -> int:
        """Output tokens that have all that a client wants of them."""
        return len(self.output_ids) - self.num_unscored

    @property
    def num_tokens(self) -> int:
        """Prompt plus known output."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def token_ids(self) -> IntArray:
        """Prompt plus known output, int64 [num_tokens], as the prefix cache compares them: placeholders of media have
        ids above the vocabulary that tell one picture from another. Not to be changed."""
        # Built for prefills and cache look-ups only, never in a decode step.
        missing = self.num_tokens - len(self._token_ids)
        if missing:
            tail = np.asarray(self.output_ids[-missing:], dtype=np.int64)
            self._token_ids = np.concatenate([self._token_ids, tail])
        return self._token_ids

    def input_ids(self, start: int, end: int) -> IntArray:
        """The known tokens ``start`` ... ``end`` - 1 in ids of the vocabulary, as the model takes them."""
        ids = self.token_ids[start:end]
        if self.media is None or start >= self.num_prompt_tokens:
            return ids
        head = self.prompt_ids[start:end]
        return np.concatenate([head, ids[len(head) :]])

    @property
    def position_delta(self) -> int:
        """What the position of a token past the prompt is beyond its number."""
        return 0 if self.media is None else self.media.position_delta

    @property
    def samples(self) -> bool:
        """Whether the request generates tokens at all."""
        return self.max_new_tokens > 0

    @property
    def end_len(self) -> int:
        """The ``seq_len`` with which the last allowed token is sampled."""
        return len(self.prompt_ids) + self.max_new_tokens - 1

    @property
    def max_cached_tokens(self) -> int:
        """A cached prefix is used up to here."""
        if not self.reuses_prefix:
            return 0
        limit = self.num_tokens - 1
        start = self.pending_score_start
        return limit if start is None else min(limit, start)

    @property
    def pending_input_start(self) -> int | None:
        """The first position whose hidden state is needed for prompt log-probabilities still to come."""
        wish = self.request.logprobs
        if wish is None or wish.input_start is None or self.has_input_logprobs:
            return None
        return max(wish.input_start - 1, 0)

    @property
    def pending_score_start(self) -> int | None:
        """The first position whose hidden state is needed for log-probabilities, still to come, of tokens that are
        not sampled: of the prompt, or appended to the output."""
        return self.num_tokens - self.num_unscored - 1 if self.num_unscored else self.pending_input_start

    @property
    def has_input_logprobs(self) -> bool:
        """Whether all prompt log-probabilities that were asked for are there."""
        wish = self.request.logprobs
        if wish is None or wish.input_start is None:
            return True
        return self.input_logprobs_sent or len(self.input_logprobs) >= self.num_prompt_tokens - wish.input_start

    @property
    def num_pending_prefill(self) -> int:
        """Prompt tokens still to compute."""
        return max(self.prefill_len - self.seq_len, 0)

    @property
    def allocated_len(self) -> int:
        """Slots of the row in use: ``seq_len`` in whole pages."""
        return -(-self.seq_len // self.page_size) * self.page_size

    @property
    def num_owned_slots(self) -> int:
        """Slots outside the prefix cache that the request holds (whole pages)."""
        return self.allocated_len - self.num_protected

    @property
    def is_alive(self) -> bool:
        """Whether the request has not ended."""
        return self.state not in (ReqState.FINISHED, ReqState.HELD)
