"""Intake: makes a Req of a request, or says why it cannot run here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from hookline.batch.worker_batch import LogprobSpec
from hookline.errors import ContextLengthError, OverloadedError, RequestError
from hookline.scheduler.req import Req, ReqState

if TYPE_CHECKING:
    from hookline.messages.requests import TokenizedRequest
    from hookline.scheduler.adapters import AdapterTable
    from hookline.scheduler.finisher import Finisher
    from hookline.scheduler.media import MediaHost
    from hookline.scheduler.roster import Roster
    from hookline.scheduler.stops import StopTexts
    from hookline.scheduler.waits import WaitRoom


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """What a request may ask for."""

    vocab_size: int
    max_context_len: int
    #: Slots of the whole KV pool.
    max_total_tokens: int
    page_size: int
    max_queued_requests: int | None
    #: Whether a request that outranks a queued one takes its place in a full queue.
    enable_priority: bool
    low_priority_first: bool
    stream_interval: int
    #: The model's end-of-sequence tokens.
    eos_token_ids: tuple[int, ...] = ()
    #: Pooler name -> whether it must see every prompt token.
    poolers: dict[str, bool] = field(default_factory=dict)
    #: The model's own pooler.
    default_pooler: str | None = None


class Intake:
    """Checks new requests and lets them into the roster."""

    def __init__(
        self,
        limits: IntakeLimits,
        roster: Roster,
        waits: WaitRoom,
        adapters: AdapterTable,
        media: MediaHost,
        finisher: Finisher,
        stops: StopTexts,
    ) -> None:
        self._limits = limits
        self._roster = roster
        self._waits = waits
        self._adapters = adapters
        self._media = media
        self._finisher = finisher
        self._stops = stops
        self._num_arrived = 0
        #: Part of every cache namespace; grows with each update of the weights.
        self.weight_version = 0

    def accept(self, request: TokenizedRequest) -> None:
        """Take a request in; ``RequestError`` says why not, and nothing has changed then."""
        max_new_tokens = self._check_lengths(request)
        self._check_tokens(request)
        pooling = self._pooler(request)
        priority = -request.priority if self._limits.low_priority_first else request.priority
        params = request.sampling_params
        ends = set(params.stop_token_ids)
        if not params.ignore_eos:
            ends.update(self._limits.eos_token_ids)
        req = Req(
            request=request,
            arrival=self._num_arrived,
            priority=priority,
            max_new_tokens=max_new_tokens,
            page_size=self._limits.page_size,
            end_ids=frozenset(ends),
            namespace=msgspec.structs.replace(request.namespace, weight_version=self.weight_version),
            pooling=pooling,
            reuses_prefix=pooling is None or not self._limits.poolers[pooling],
            stream_interval=params.stream_interval or self._limits.stream_interval,
        )
        req.stop_text = self._stops.for_request(request)
        wish = request.logprobs
        if wish is not None and wish.output and req.samples:
            req.decode_logprobs = LogprobSpec(output=True, top=wish.top, token_ids=wish.token_ids)
        if request.lora is not None:
            req.lora = self._adapters.acquire(request.lora)
            req.namespace = msgspec.structs.replace(req.namespace, adapter=req.lora.id)
        try:
            self._media.attach(req)
            self._make_queue_room(priority)
            self._waits.admit(req)
        except BaseException:
            if req.lora is not None:
                self._adapters.release(req.lora)
            self._media.release(req)
            raise
        self._num_arrived += 1
        self._roster.add(req)

    def renew_namespaces(self) -> None:
        """After an update of the weights: nobody may meet KV of the old ones."""
        self.weight_version += 1
        for req in self._roster:
            req.namespace = msgspec.structs.replace(req.namespace, weight_version=self.weight_version)

    def _check_lengths(self, request: TokenizedRequest) -> int:
        """The output tokens that the request may have: what it asks for, lowered to what can be held."""
        num_prompt = len(request.input_ids)
        asked = 0 if request.pooling is not None else request.sampling_params.max_new_tokens
        if num_prompt < 1:
            raise RequestError("the prompt has no tokens; give at least one", param="input_ids")
        # The last output token is never fed, so it needs no slot; a prompt without output needs just its own.
        least = 0 if asked == 0 else 1
        limits = self._limits
        if num_prompt + least > limits.max_context_len:
            raise ContextLengthError(
                f"the prompt has {num_prompt} tokens, but the context is {limits.max_context_len} tokens and must "
                f"hold the output too; shorten the prompt or raise max_model_len",
                param="input_ids",
            )
        pool = limits.max_total_tokens
        if num_prompt > pool:
            raise ContextLengthError(
                f"the prompt has {num_prompt} tokens, but the KV cache holds {pool}; shorten the prompt or raise "
                f"kv_cache_tokens",
                param="input_ids",
            )
        room = min(limits.max_context_len - num_prompt, pool - num_prompt + 1)
        return room if asked is None else min(asked, room)

    def _check_tokens(self, request: TokenizedRequest) -> None:
        vocab_size = self._limits.vocab_size
        ids = request.input_ids
        low, high = min(ids), max(ids)
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            raise RequestError(f"token id {wrong} is outside the vocabulary (0 to {vocab_size - 1})", param="input_ids")
        wish = request.logprobs
        if wish is not None and wish.input_start is not None and not 0 <= wish.input_start <= len(ids):
            raise RequestError(
                f"prompt log-probabilities cannot start at token {wish.input_start} of a prompt of {len(ids)}",
                param="logprobs",
            )

    def _pooler(self, request: TokenizedRequest) -> str | None:
        if request.pooling is None:
            return None
        poolers = self._limits.poolers
        name = request.pooling.pooling or self._limits.default_pooler
        if name is None:
            raise RequestError("the model names no pooler of its own; give 'pooling'", param="pooling")
        for known in poolers:
            if known.lower() == name.lower():
                return known
        raise RequestError(f"unknown pooling '{name}' (known: {', '.join(sorted(poolers)) or 'none'})", param="pooling")

    def _make_queue_room(self, priority: int) -> None:
        """In a full queue, refuse the newcomer or the worst of those that wait. Started requests stay."""
        limit = self._limits.max_queued_requests
        num_queued = len(self._roster.waiting) + self._waits.num_gated
        if limit is None or num_queued < limit:
            return
        full = OverloadedError(
            f"{num_queued} requests are waiting already (max_queued_requests is {limit}); try again later"
        )
        new = [req for req in self._roster if req.state in _QUEUED and not req.has_started]
        if not self._limits.enable_priority or not new:
            raise full
        worst = min(new, key=lambda req: (req.priority, -req.arrival))
        if worst.priority >= priority:
            raise full
        self._finisher.fail(worst, full)


_QUEUED = (ReqState.GATED, ReqState.WAITING)
