"""A scheduler process without a model: every request gets its prompt's tokens back, round and round.

It speaks the whole protocol, so servers can be tested without weights, and it emits as fast as it can, so
that the frontend's own speed can be measured. Settings come from the environment: ECHO_STEP_SECONDS (pause
after each step), ECHO_START_SECONDS, ECHO_FAIL (error at the start), ECHO_STUBBORN (ignores "shutdown").
"""

from __future__ import annotations

import os
import time
from typing import Any

import zmq

from hookline.errors import ModelError
from hookline.messages.control import ControlReply, ControlRequest, SchedulerStats
from hookline.messages.outputs import BatchTokenOutput, DetokenizeStart, FinishReason, RequestStats
from hookline.messages.requests import AbortReq, TokenizedRequest
from hookline.processes.channels import scheduler_ends
from hookline.processes.child import ChildContext

_REPORT_SECONDS = 0.25


class EchoScheduler:
    """All requests run at once, one token each per step."""

    def __init__(self, receiver: Any, sender: Any) -> None:
        self._receiver = receiver
        self._sender = sender
        self._running: dict[str, TokenizedRequest] = {}
        self._counts: dict[str, int] = {}
        self._steps = 0
        self._reported = 0.0
        self._step_seconds = float(os.environ.get("ECHO_STEP_SECONDS", "0"))
        self._is_shut_down = False

    def run(self) -> None:
        while not self._is_shut_down:
            for message in self._receiver.receive(0.0 if self._running else None):
                self._take(message)
            if self._running:
                self._step()
                time.sleep(self._step_seconds)
            self._report()

    def _take(self, message: TokenizedRequest | AbortReq | ControlRequest) -> None:
        if isinstance(message, TokenizedRequest):
            self._running[message.rid] = message
            self._counts[message.rid] = 0
        elif isinstance(message, AbortReq):
            self._abort([rid for rid in (self._running if message.all else message.rids) if rid in self._running])
        else:
            self._control(message)

    def _step(self) -> None:
        output = BatchTokenOutput(rids=[], token_ids=[], finish_reasons=[], stats=[])
        for rid, request in list(self._running.items()):
            count = self._counts[rid]
            limit = request.sampling_params.max_new_tokens or 0
            if count == 0:
                output.starts.append(DetokenizeStart(rid=rid, prompt_tail=request.input_ids[-8:]))
            tokens = [request.input_ids[count % len(request.input_ids)]] if count < limit else []
            count += len(tokens)
            self._add(output, rid, tokens, FinishReason(type="length") if count >= limit else None)
        self._steps += 1
        self._sender.send(output)

    def _abort(self, rids: list[str]) -> None:
        output = BatchTokenOutput(rids=[], token_ids=[], finish_reasons=[], stats=[])
        for rid in rids:
            self._add(output, rid, [], FinishReason(type="abort", message="aborted", status_code=499, code="aborted"))
        if rids:
            self._sender.send(output)

    def _add(self, output: BatchTokenOutput, rid: str, tokens: list[int], finish: FinishReason | None) -> None:
        request = self._running[rid]
        self._counts[rid] += len(tokens)
        output.rids.append(rid)
        output.token_ids.append(tokens)
        output.finish_reasons.append(finish)
        output.stats.append(RequestStats(len(request.input_ids), 0, self._counts[rid]))
        if finish is not None:
            del self._running[rid], self._counts[rid]

    def _control(self, message: ControlRequest) -> None:
        if message.method == "crash":
            raise ZeroDivisionError("the echo cracked")
        if message.method == "shutdown":
            self._is_shut_down = "ECHO_STUBBORN" not in os.environ
        ok = message.method in ("server_state", "flush_cache", "shutdown")
        data = {"num_running": len(self._running), "arguments": message.arguments}
        self._sender.send(ControlReply(id=message.id, ok=ok, message="" if ok else "unknown method", data=data))

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
                used_tokens=sum(self._counts.values()),
                total_tokens=1_000_000,
                cached_tokens_total=0,
                prompt_tokens_total=0,
                generated_tokens_total=0,
                num_retractions_total=0,
                steps_total=self._steps,
                seconds_since_step=0.0,
            )
        )


def run(context: ChildContext) -> None:
    """The target of the scheduler process."""
    if "ECHO_FAIL" in os.environ:
        raise ModelError(os.environ["ECHO_FAIL"])
    time.sleep(float(os.environ.get("ECHO_START_SECONDS", "0")))
    receiver, sender = scheduler_ends(context.addresses, zmq.Context())
    context.ready({"device": "echo"})
    EchoScheduler(receiver, sender).run()
