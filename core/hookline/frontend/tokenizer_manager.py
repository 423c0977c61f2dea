"""TokenizerManager: the server's side of every request, on the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from hookline.errors import HooklineError, OverloadedError, RequestError
from hookline.frontend.control_calls import ControlCalls
from hookline.frontend.engine_state import EngineState
from hookline.frontend.pending_request import PendingChoice, PendingRequest
from hookline.frontend.request_builder import RequestBuilder
from hookline.interfaces.api import Chunk, GenerateRequest
from hookline.media.intake import MediaIntake
from hookline.media.prepared import PreparedMedia
from hookline.messages.control import ControlReply, SchedulerStats
from hookline.messages.outputs import BatchEmbeddingOutput, BatchTextOutput, FinishReason, RequestStats
from hookline.messages.requests import AbortReq, TokenizedRequest
from hookline.messages.transport import Sender
from hookline.messages.wire import FrontendInput, SchedulerInput
from hookline.observability.metrics import Metrics

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Texts up to this many characters are tokenized on the loop: handing them to a thread costs more.
_INLINE_CHARS = 2048
_INLINE_TOKENS = 16384
_TOKENIZER_THREADS = 2


class TokenizerManager:
    """Sends requests to the scheduler, keeps their state, and gives each reader its chunks.

    All methods run on one event loop. ``handle`` takes the engine's messages; whoever owns the socket
    calls it.
    """

    def __init__(
        self,
        builder: RequestBuilder,
        sender: Sender[SchedulerInput],
        *,
        state: EngineState,
        metrics: Metrics,
        max_concurrent_requests: int,
        log_requests: bool = False,
        media: MediaIntake | None = None,
    ) -> None:
        """``media`` prepares pictures and the like; ``None`` for a model that takes text only."""
        self.builder = builder
        self._media = media
        if media is not None:
            metrics.watch_media(media.figures)
        self.state = state
        self.metrics = metrics
        self._sender = sender
        self._max_concurrent_requests = max_concurrent_requests
        self._log_requests = log_requests
        #: Accepted and not answered to the end, those that are still being tokenized included.
        self._num_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        #: Client's id -> its live request.
        self._requests: dict[str, PendingRequest] = {}
        #: Choice id -> its state, until the scheduler has sent its end: a reader that went away leaves its
        #: choices here, so that their ids cannot be reused while the scheduler still knows them.
        self._choices: dict[str, PendingChoice] = {}
        self._control = ControlCalls(sender)
        self._stats: SchedulerStats | None = None
        #: Set once the server ends: what it tells requests that are still being tokenized.
        self._farewell: str | None = None
        self._threads = ThreadPoolExecutor(_TOKENIZER_THREADS, thread_name_prefix="tokenize")

    def scheduler_report(self) -> dict[str, Any]:
        """The scheduler's latest figures; empty before the first report."""
        return {} if self._stats is None else msgspec.to_builtins(self._stats)

    # --- requests ---

    @property
    def num_in_flight(self) -> int:
        """Requests that were accepted and not answered to the end."""
        return self._num_in_flight

    @property
    def num_open_choices(self) -> int:
        """Choices that the scheduler has not ended."""
        return len(self._choices)

    async def generate(self, request: GenerateRequest, *, own: bool = False) -> AsyncGenerator[Chunk]:
        """Chunks of all choices as they come; without ``stream`` one for each choice, at its end.

        Closing the iterator, or cancelling its reader, aborts the choices that have not ended. The first
        step raises ``RequestError`` for an invalid request, ``OverloadedError`` if there are too many or the
        server does not serve; any step raises ``EngineDeadError`` when the engine dies. The server's ``own``
        requests are taken in every phase and beyond the limit.
        """
        if not own:
            self._check_admits()
        received = time.monotonic()
        self._enter()
        pending: PendingRequest | None = None
        media: PreparedMedia | None = None
        try:
            media = await self._prepare(request)
            tokenized = await self._build(request, media)
            pending = self._register(request, tokenized, received)
            pending.hold(media)
            self._send(pending, tokenized)
            while chunks := await pending.next_chunks():
                for chunk in chunks:
                    yield chunk
        finally:
            if media is not None and (pending is None or not self._is_read(pending)):
                media.release()
            self._leave(pending)

    def abort(self, rid: str | None, *, all_requests: bool = False) -> int:
        """Cancel a request by the client's id, or every one; gives the number of choices that were told.

        Their readers get a last chunk of type "abort" when the scheduler has let go of them.
        """
        if all_requests:
            requests = list(self._requests.values())
        else:
            found = self._requests.get(rid or "")
            requests = [] if found is None else [found]
        rids = [choice.rid for request in requests for choice in request.choices if not choice.ended]
        if rids:
            self._sender.send(AbortReq(rids=rids))
        return len(rids)

    # --- what the engine sends ---

    def handle(self, message: FrontendInput) -> None:
        """Take a message of the engine."""
        if isinstance(message, BatchTextOutput):
            self._handle_text(message)
        elif isinstance(message, BatchEmbeddingOutput):
            self._handle_embeddings(message)
        elif isinstance(message, ControlReply):
            self._control.answered(message)
        else:
            self._handle_stats(message)

    def _handle_text(self, output: BatchTextOutput) -> None:
        now = time.monotonic()
        self.state.progressed()
        output_logprobs = output.output_logprobs
        input_logprobs = output.input_logprobs
        num_tokens = 0
        for i, rid in enumerate(output.rids):
            choice = self._choices.get(rid)
            if choice is None:
                continue
            finish = output.finish_reasons[i]
            token_ids = output.token_ids[i]
            if token_ids:
                num_tokens += len(token_ids)
                self._time_tokens(choice, len(token_ids), now)
            if choice.is_wanted:
                choice.add(
                    text=output.texts[i],
                    token_ids=token_ids,
                    finish=finish,
                    stats=output.stats[i],
                    output_logprobs=output_logprobs[i] if output_logprobs else None,
                    input_logprobs=input_logprobs[i] if input_logprobs else None,
                )
            if finish is not None:
                self._end(choice, finish, output.stats[i])
        self.metrics.tokens(num_tokens)

    def _handle_embeddings(self, output: BatchEmbeddingOutput) -> None:
        self.state.progressed()
        for rid, embedding, finish, stats in zip(
            output.rids, output.embeddings, output.finish_reasons, output.stats, strict=True
        ):
            choice = self._choices.get(rid)
            if choice is None:
                continue
            if choice.is_wanted:
                choice.add(text="", token_ids=(), finish=finish, stats=stats, embedding=embedding)
            if finish is not None:
                self._end(choice, finish, stats)

    def _handle_stats(self, stats: SchedulerStats) -> None:
        self._stats = stats
        self.state.steps(stats.steps_total)
        self.metrics.scheduler_report(stats)

    def _time_tokens(self, choice: PendingChoice, count: int, now: float) -> None:
        request = choice.request
        if not request.has_first_token:
            request.has_first_token = True
            self.metrics.first_token(now - request.received)
        if choice.last_token_at is not None:
            self.metrics.token_gap(now - choice.last_token_at, count)
        choice.last_token_at = now

    def _end(self, choice: PendingChoice, finish: FinishReason, stats: RequestStats) -> None:
        del self._choices[choice.rid]
        if choice.request.media is not None and not self._is_read(choice.request):
            choice.request.media.release()
        self.metrics.choice_ended(
            finish.type,
            prompt_tokens=stats.prompt_tokens,
            cached_tokens=stats.cached_tokens,
            queue_seconds=stats.queue_time,
        )
        if self._log_requests:
            logger.info(
                "request ended",
                extra={
                    "request_id": choice.rid,
                    "finish_reason": finish.type,
                    "prompt_tokens": stats.prompt_tokens,
                    "cached_tokens": stats.cached_tokens,
                    "completion_tokens": stats.completion_tokens,
                    "seconds": round(time.monotonic() - choice.request.received, 4),
                },
            )

    # --- control ---

    async def control(
        self, method: str, arguments: Mapping[str, Any], *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Ask the scheduler (see ``ControlRequest``) and give its data, with its message under "message".

        Raises ``RequestError`` when it refuses or does not answer within ``timeout`` seconds (``None``: the
        method's own limit), ``EngineDeadError`` when it dies.
        """
        self.state.check_alive()
        reply = await self._control.call(method, arguments, timeout)
        if "released_memory" in reply.data:
            self.state.released(reply.data["released_memory"])
        return {"message": reply.message, **reply.data}

    # --- the end ---

    async def wait_idle(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until nothing is in flight; says whether that came about."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def end_all(self, message: str) -> None:
        """End every open request here and now with an abort that says ``message`` (503); none comes after."""
        self._farewell = message
        finish = FinishReason(type="abort", message=message, status_code=503, code="shutting_down")
        for request in list(self._requests.values()):
            for choice in request.choices:
                if not choice.ended:
                    choice.add(text="", token_ids=(), finish=finish, stats=RequestStats(0, 0, 0))

    def fail_all(self, cause: str) -> None:
        """The engine is dead: everything that waits for it raises ``EngineDeadError(cause)``."""
        self.state.dead(cause)
        for request in list(self._requests.values()):
            request.fail(cause)
        self._control.fail_all(cause)

    async def close(self) -> None:
        """Stop the threads, and what prepares media."""
        if self._media is not None:
            await self._media.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- below: how a request comes in and goes ---

    async def off_loop(self, work: Callable[[], T], *, size: int) -> T:
        """Run ``work`` on a text of ``size`` characters: here if it is short, in a thread otherwise."""
        if size <= _INLINE_CHARS:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _prepare(self, request: GenerateRequest) -> PreparedMedia | None:
        """The request's media; the caller releases them."""
        if not request.media:
            return None
        try:
            if self._media is None:
                raise RequestError(
                    f"{request.media[0].where}: this server's model takes text only", code="unsupported_content"
                )
            return await self._media.prepare(request.media)
        except HooklineError:
            self.metrics.request_refused()
            raise

    def _is_read(self, pending: PendingRequest) -> bool:
        """Whether the scheduler may still read the request's media."""
        return any(choice.rid in self._choices for choice in pending.choices)

    async def _build(self, request: GenerateRequest, media: PreparedMedia | None) -> list[TokenizedRequest]:
        started = time.monotonic()
        try:
            return await self.off_loop(lambda: self.builder.build(request, media), size=_size(request))
        except HooklineError:
            self.metrics.request_refused()
            raise
        finally:
            self.metrics.tokenized(time.monotonic() - started)

    def _register(
        self, request: GenerateRequest, tokenized: Sequence[TokenizedRequest], received: float
    ) -> PendingRequest:
        self.state.check_alive()
        if self._farewell is not None:
            raise OverloadedError(self._farewell, code="shutting_down")
        rid = request.rid or tokenized[0].rid.partition("#")[0]
        for one in tokenized:
            if one.rid in self._choices:
                raise RequestError(f"the request id '{one.rid}' is in use; choose another", param="rid")
        if rid in self._requests:
            raise RequestError(f"the request id '{rid}' is in use; choose another", param="rid")
        pending = PendingRequest(rid, stream=request.stream, received=received)
        self._requests[rid] = pending
        return pending

    def _send(self, pending: PendingRequest, tokenized: Sequence[TokenizedRequest]) -> None:
        if not self._choices:
            self.state.progressed()
        for one in tokenized:
            # Sent first: what could not be sent is not waited for.
            self._sender.send(one)
            choice = PendingChoice(pending, one.rid, one.choice_index)
            pending.choices.append(choice)
            self._choices[one.rid] = choice

    def _check_admits(self) -> None:
        try:
            self.state.check_admits()
            if self._num_in_flight >= self._max_concurrent_requests:
                raise OverloadedError(
                    f"{self._num_in_flight} requests are in flight (max_concurrent_requests); try again later"
                )
        except OverloadedError:
            self.metrics.request_refused()
            raise

    def _enter(self) -> None:
        self._num_in_flight += 1
        self._idle.clear()
        self.metrics.request_started()

    def _leave(self, pending: PendingRequest | None) -> None:
        self._num_in_flight -= 1
        if self._num_in_flight == 0:
            self._idle.set()
        if pending is None:
            self.metrics.request_ended(None)
            return
        finished = bool(pending.choices) and pending.ended
        self.metrics.request_ended(time.monotonic() - pending.received if finished else None)
        pending.closed = True
        del self._requests[pending.rid]
        unfinished = [choice.rid for choice in pending.choices if choice.rid in self._choices and not choice.ended]
        if unfinished:
            self._abort_quietly(unfinished)

    def _abort_quietly(self, rids: list[str]) -> None:
        try:
            self._sender.send(AbortReq(rids=rids))
        except OverloadedError:
            # The reader is gone, nobody can be told; the requests run to their end and are dropped then.
            logger.warning("could not abort %d requests: the engine is too far behind", len(rids))


def _size(request: GenerateRequest) -> int:
    """Work of checking a request, in characters of text."""
    grammar = request.sampling_params.grammar
    size = len(request.prompt) if isinstance(request.prompt, str) else 0
    if request.input_ids is not None and len(request.input_ids) > _INLINE_TOKENS:
        size = _INLINE_CHARS + 1
    if request.sampling_params.logits_processors:
        # The first request that names a processor imports it.
        size = _INLINE_CHARS + 1
    if request.media:
        # The prompt grows by as many tokens as the media have.
        size = _INLINE_CHARS + 1
    return size + (len(grammar[1]) if grammar is not None and isinstance(grammar[1], str) else 0)
