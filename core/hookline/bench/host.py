"""The host's part of a decode step: a whole scheduler on a device that computes nothing, by stage."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from typing import Any

from hookline.bench.grammar import schema_of
from hookline.bench.grammar_walker import GrammarWalker
from hookline.bench.idle_worker import STAND_IN, IdleWorker
from hookline.bench.stage_clock import StageClock
from hookline.config.engine_plan import EnginePlan
from hookline.config.model_config import ModelConfig
from hookline.errors import HooklineError
from hookline.interfaces.worker import WorkerInfo
from hookline.messages.control import ControlReply, ControlRequest
from hookline.messages.requests import AbortReq, TokenizedRequest
from hookline.messages.transport import LocalChannel
from hookline.messages.wire import SchedulerInput, scheduler_output_codec
from hookline.platform import create_platform
from hookline.sampling_params import SamplingParams
from hookline.scheduler.factory import build_scheduler
from hookline.text.tokenizer import load_tokenizer

#: Steps before the clock starts, besides those that the prefills take.
_WARM_UP_STEPS = 50
#: Steps that prefills may take for each request.
_MAX_PREFILL_STEPS = 4
#: Seconds that all grammars may take.
_MAX_COMPILE_SECONDS = 300.0
_STATE_ID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLoad:
    """What runs while the steps are timed."""

    requests: int
    input_len: int = 128
    steps: int = 200
    rounds: int = 5
    #: 0 decodes greedily; above, every request is sampled with top-k and top-p.
    temperature: float = 0.0
    #: JSON schemas among the requests, in turns; 0: none is constrained. At most ``requests``.
    schemas: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMeasurement:
    """Seconds of one step."""

    load: HostLoad
    #: Stage -> seconds, of the round with the least sum. In the order of a step.
    stages: dict[str, float]
    #: Seconds of one step in each round.
    rounds: list[float]
    #: Seconds until all grammars were compiled, side by side.
    compile_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """The best round's."""
        return min(self.rounds)


def measure_host(plan: EnginePlan, load: HostLoad) -> HostMeasurement:
    """Time decode steps of ``load.requests`` running requests that all stream.

    Nothing of the model runs. The stages are those of ``SchedulerStats`` with the worker's planning and reading
    taken out, and "encode", which is the message as bytes. "other" is the loop itself.

    Raises ``HooklineError`` when the requests do not all get to decode.
    """
    return _HostBench(plan, load).measure()


class _HostBench:
    def __init__(self, plan: EnginePlan, load: HostLoad) -> None:
        self._load = load
        model = ModelConfig.load(plan.model_path)
        self._output_len = _WARM_UP_STEPS + (load.rounds + 1) * load.steps + load.requests * _MAX_PREFILL_STEPS
        page_size = plan.config.cache.page_size
        assert isinstance(page_size, int), "resolution fills cache.page_size"
        context_len = load.input_len + self._output_len
        pages = -(-context_len // page_size) + 1
        info = WorkerInfo(
            max_total_tokens=load.requests * pages * page_size,
            max_running_requests=load.requests,
            max_context_len=context_len + 1,
            page_size=page_size,
            vocab_size=model.vocab_size,
            position_planes=model.position_planes,
        )
        clock = StageClock("worker: plan", "worker: read", "encode", STAND_IN)
        walker = GrammarWalker(load_tokenizer(plan.tokenizer_path), model.vocab_size) if load.schemas else None
        self._worker = IdleWorker(info, create_platform("cpu"), clock, walker)
        self._inbox: LocalChannel[SchedulerInput] = LocalChannel()
        self._sender = _EncodingSender(clock)
        self._scheduler = build_scheduler(plan, self._worker, self._inbox, self._sender)

    def measure(self) -> HostMeasurement:
        compile_seconds = self._compile()
        self._start()
        for _ in range(_WARM_UP_STEPS):
            self._scheduler.step()
        totals: list[dict[str, float]] = []
        for _ in range(self._load.rounds):
            before = self._totals()
            # The question takes a step too.
            for _ in range(self._load.steps - 1):
                self._scheduler.step()
            after = self._totals()
            stages = {name: (after[name] - before[name]) / self._load.steps for name in after}
            seconds = stages.pop("all")
            stages["other"] = seconds - sum(stages.values())
            del stages[STAND_IN]
            totals.append(stages)
        if self._state()["num_running"] != self._load.requests:
            raise HooklineError(f"only {self._state()['num_running']} of {self._load.requests} requests ran to the end")
        self._inbox.send(AbortReq(all=True))
        self._scheduler.step()
        sums = [sum(stages.values()) for stages in totals]
        return HostMeasurement(
            load=self._load, stages=totals[sums.index(min(sums))], rounds=sums, compile_seconds=compile_seconds
        )

    def _start(self) -> None:
        """Bring all requests into the decoding batch."""
        rng = random.Random(0)
        vocab_size = self._worker.info.vocab_size
        temperature = self._load.temperature
        params = SamplingParams(max_new_tokens=self._output_len, ignore_eos=True, temperature=0.0)
        if temperature > 0:
            params = params.replace(temperature=temperature, top_k=50, top_p=0.9)
        for number in range(self._load.requests):
            prompt = [rng.randrange(vocab_size) for _ in range(self._load.input_len)]
            self._inbox.send(
                TokenizedRequest(
                    rid=f"request-{number}",
                    input_ids=prompt,
                    sampling_params=self._constrained(params, number),
                    stream=True,
                )
            )
        for _ in range(self._load.requests * _MAX_PREFILL_STEPS):
            self._scheduler.step()
            state = self._state()
            if state["num_running"] == self._load.requests and state["generated_tokens_total"] >= self._load.requests:
                return
        raise HooklineError(f"the scheduler did not run {self._load.requests} requests together: {self._state()}")

    def _compile(self) -> float:
        """Have every grammar compiled and kept; gives the seconds."""
        started = time.perf_counter()
        for number in range(self._load.schemas):
            params = self._constrained(SamplingParams(max_new_tokens=1), number)
            self._inbox.send(TokenizedRequest(rid=f"grammar-{number}", input_ids=[number], sampling_params=params))
        while self._scheduler.step():
            if time.perf_counter() - started > _MAX_COMPILE_SECONDS:
                raise HooklineError(f"{self._load.schemas} schemas did not compile in {_MAX_COMPILE_SECONDS:g} s")
        return time.perf_counter() - started

    def _constrained(self, params: SamplingParams, number: int) -> SamplingParams:
        if not self._load.schemas:
            return params
        # Documents that do not end while the steps are timed.
        schema = {"type": "array", "minItems": self._output_len, "items": schema_of(number % self._load.schemas)}
        return params.replace(json_schema=json.dumps(schema))

    def _totals(self) -> dict[str, float]:
        """Stage -> seconds since the start, and all seconds, at one moment between two steps."""
        found = self._state()["stage_seconds"]
        times = self._sender.times
        return {
            "schedule": found["schedule"],
            "launch": found["launch"] - times["worker: plan"],
            "worker: plan": times["worker: plan"],
            "worker: read": times["worker: read"],
            "mask": found["mask"],
            "process": found["process"],
            "send": found["send"] - times["encode"],
            "encode": times["encode"],
            STAND_IN: times[STAND_IN],
            "all": times["all"],
        }

    def _state(self) -> dict[str, Any]:
        self._inbox.send(ControlRequest(id=_STATE_ID, method="server_state"))
        self._scheduler.step()
        assert self._sender.reply is not None
        return self._sender.reply.data


class _EncodingSender:
    """Encodes what a socket would send. Keeps the last reply, and the times at that moment."""

    def __init__(self, clock: StageClock) -> None:
        self._codec = scheduler_output_codec()
        self._clock = clock
        self.reply: ControlReply | None = None
        self.times: dict[str, float] = {}

    def send(self, message: Any) -> None:
        with self._clock.stage("encode"):
            self._codec.encode(message)
        if isinstance(message, ControlReply):
            self.reply, self.times = message, {**self._clock.seconds, "all": time.perf_counter()}
