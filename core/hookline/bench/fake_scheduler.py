"""A scheduler process without a model, to measure the processes around it.

Every request gets its prompt's tokens back, round and round. All requests run at once, and steps follow each
other as fast as the readers take them: who reads says so (see ``FakeSchedulerOptions.acks``), and the scheduler
stays a few steps ahead, so that the queues between the processes stay short.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import msgspec
import zmq

from hookline.messages.control import ControlReply, ControlRequest, SchedulerStats
from hookline.messages.outputs import BatchTokenOutput, DetokenizeStart, FinishReason, RequestStats
from hookline.messages.requests import AbortReq, TokenizedRequest
from hookline.messages.sockets import SocketReceiver
from hookline.messages.transport import Receiver, Sender
from hookline.messages.wire import Codec, SchedulerInput, SchedulerOutput
from hookline.processes.channels import scheduler_ends
from hookline.processes.child import ChildContext

_REPORT_SECONDS = 0.25
#: How long to sleep at most while the readers are behind; new requests wait as long.
_BEHIND_SECONDS = 0.002
_PROMPT_TAIL = 8


class FakeSchedulerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the process."""

    #: ZMQ address that the process binds: the reader sends the tokens that it has read so far.
    acks: str
    #: Tokens that each request gets in a step.
    tokens_per_step: int = 1
    #: Tokens that may be under way. At least the tokens of one step.
    window: int


class _Running:
    """One request."""

    __slots__ = ("count", "limit", "num_prompt_tokens", "tokens")

    def __init__(self, request: TokenizedRequest) -> None:
        self.tokens: Iterator[int] = itertools.cycle(request.input_ids)
        self.num_prompt_tokens = len(request.input_ids)
        self.limit = request.sampling_params.max_new_tokens or 0
        self.count = 0


class FakeScheduler:
    """Speaks the scheduler's side of the protocol. For one thread."""

    def __init__(
        self,
        receiver: Receiver[SchedulerInput],
        sender: Sender[SchedulerOutput],
        acks: Receiver[int],
        options: FakeSchedulerOptions,
    ) -> None:
        self._receiver = receiver
        self._sender = sender
        self._acks = acks
        self._options = options
        self._running: dict[str, _Running] = {}
        self._starts: list[DetokenizeStart] = []
        #: Tokens sent and tokens read since requests began to run.
        self._num_sent = 0
        self._num_read = 0
        self._num_steps = 0
        self._reported = 0.0
        self._is_shut_down = False

    def run(self) -> None:
        """Work until "shutdown"."""
        while not self._is_shut_down:
            for message in self._receiver.receive(0.0 if self._running else None):
                self._take(message)
            if self._running and self._readers_are_near():
                self._step()
            self._report()

    def _readers_are_near(self) -> bool:
        is_behind = self._num_sent - self._num_read >= self._options.window
        for total in self._acks.receive(_BEHIND_SECONDS if is_behind else 0.0):
            self._num_read = total
        return self._num_sent - self._num_read < self._options.window

    def _take(self, message: SchedulerInput) -> None:
        if isinstance(message, TokenizedRequest):
            if not self._running:
                self._num_sent = self._num_read = 0
            self._running[message.rid] = _Running(message)
            self._starts.append(DetokenizeStart(rid=message.rid, prompt_tail=message.input_ids[-_PROMPT_TAIL:]))
        elif isinstance(message, AbortReq):
            self._abort(list(self._running) if message.all else message.rids)
        else:
            self._control(message)

    def _step(self) -> None:
        output = BatchTokenOutput(rids=[], token_ids=[], finish_reasons=[], stats=[], starts=self._starts)
        self._starts = []
        for rid, running in list(self._running.items()):
            count = min(self._options.tokens_per_step, running.limit - running.count)
            tokens = list(itertools.islice(running.tokens, count))
            running.count += count
            self._num_sent += count
            finish = FinishReason(type="length") if running.count >= running.limit else None
            self._add(output, rid, tokens, finish)
        self._num_steps += 1
        self._sender.send(output)

    def _abort(self, rids: list[str]) -> None:
        finish = FinishReason(type="abort", message="aborted", status_code=499, code="aborted")
        output = BatchTokenOutput(rids=[], token_ids=[], finish_reasons=[], stats=[])
        for rid in rids:
            running = self._running.get(rid)
            if running is not None:
                # Its reader has gone and will not say what it read.
                self._num_sent -= running.count
                self._add(output, rid, [], finish)
        if output.rids:
            self._starts = [start for start in self._starts if start.rid in self._running]
            self._sender.send(output)

    def _add(self, output: BatchTokenOutput, rid: str, tokens: list[int], finish: FinishReason | None) -> None:
        running = self._running[rid]
        output.rids.append(rid)
        output.token_ids.append(tokens)
        output.finish_reasons.append(finish)
        output.stats.append(RequestStats(running.num_prompt_tokens, 0, running.count))
        if finish is not None:
            del self._running[rid]

    def _control(self, message: ControlRequest) -> None:
        if message.method == "shutdown":
            self._is_shut_down = True
        ok = message.method in ("server_state", "shutdown")
        refusal = "" if ok else f"this scheduler is a stand-in for measurements and knows no '{message.method}'"
        self._sender.send(ControlReply(id=message.id, ok=ok, message=refusal))

    def _report(self) -> None:
        now = time.monotonic()
        if self._running and now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        self._sender.send(
            SchedulerStats(
                num_running=len(self._running),
                num_waiting=0,
                num_gated=0,
                used_tokens=0,
                total_tokens=0,
                cached_tokens_total=0,
                prompt_tokens_total=0,
                generated_tokens_total=0,
                num_retractions_total=0,
                steps_total=self._num_steps,
            )
        )


def run(context: ChildContext) -> None:
    """The target of the scheduler process."""
    options = msgspec.convert(context.options, FakeSchedulerOptions)
    zmq_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    receiver, sender = scheduler_ends(context.addresses, zmq_context)
    acks = SocketReceiver(options.acks, ack_codec(), context=zmq_context)
    context.ready({"device": "none: tokens are made up"})
    FakeScheduler(receiver, sender, acks, options).run()


def ack_codec() -> Codec[int]:
    """Codec of the readers' messages."""
    return Codec(int)
