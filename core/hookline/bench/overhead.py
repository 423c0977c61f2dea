"""What HTTP and the processes cost: one workload through ``Engine`` and, in turns, over HTTP."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from hookline.bench.http_stream import HttpStream
from hookline.bench.offline import Runner, engine_runner, measure_in_turns, unprepared
from hookline.bench.server_process import ServerProcess
from hookline.bench.workloads import Workload
from hookline.config.sources import LoadedConfig
from hookline.engine import Engine
from hookline.errors import HooklineError
from hookline.launch import event_loop_factory
from hookline.sampling_params import SamplingParams

#: Gives the seconds from asking to the first output token of a prompt.
FirstToken = Callable[[list[int]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverheadRow:
    """One way through the system."""

    name: str
    #: Seconds of the workload, all its requests sent at once; the best of the repetitions.
    seconds: float
    request_rate: float
    #: Output tokens per second.
    output_rate: float
    #: Median seconds to the first token of a request that is alone; ``None`` where only whole answers come.
    ttft: float | None


def measure_overhead(
    loaded: LoadedConfig, make: Callable[[int], Workload], *, repetitions: int, num_first_tokens: int
) -> tuple[str, list[OverheadRow]]:
    """The name of the workload, and what was measured. ``make`` gives the workload for a vocabulary size;
    ``num_first_tokens`` requests are sent one by one.

    Both engines live at the same time with the same settings, and one of them rests. Raises ``HooklineError``
    when the server does not start or a request fails.
    """
    with Engine.from_config(loaded) as engine, ServerProcess(loaded) as server:
        server.wait_ready()
        workload = make(engine.vocab_size)
        with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
            http = _HttpWays(server.url, runner)
            runners: dict[str, Runner] = {
                "engine": engine_runner(engine),
                "http": unprepared(http.whole),
                "http, streamed": unprepared(http.streamed),
            }
            results = measure_in_turns(runners, workload, repetitions=repetitions)
            ways: dict[str, FirstToken] = {"engine": _first_token(engine), "http, streamed": http.first_token}
            ttft = _first_tokens(ways, workload, engine.vocab_size, count=num_first_tokens)
    return workload.name, [
        OverheadRow(
            name=result.name,
            seconds=result.seconds,
            request_rate=len(workload.prompts) / result.seconds,
            output_rate=result.output_rate,
            ttft=ttft.get(result.name),
        )
        for result in results
    ]


def _first_tokens(ways: dict[str, FirstToken], workload: Workload, vocab_size: int, *, count: int) -> dict[str, float]:
    """Median of ``count`` prompts, in turns. No prompt begins as one before did, so none meets a cached prefix."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    length = max(len(prompt) for prompt in workload.prompts)
    longest = next(prompt for prompt in workload.prompts if len(prompt) == length)
    for number in range(count + 1):
        prompt = [vocab_size - 1 - number % (vocab_size // 2), *longest[1:]]
        for name, first_token in ways.items():
            seconds[name].append(first_token(prompt))
    # The first of each warms up.
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def _first_token(engine: Engine) -> FirstToken:
    params = SamplingParams(max_new_tokens=2, temperature=0.0, ignore_eos=True)

    def measure(prompt: list[int]) -> float:
        start = time.perf_counter()
        seconds = 0.0
        for number, _ in enumerate(engine.stream(None, params, input_ids=prompt)):
            if number == 0:
                seconds = time.perf_counter() - start
        return seconds

    return measure


class _HttpWays:
    """Requests over HTTP from this process. Connections are opened before the clock starts for a request."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self._url = url
        self._runner = runner

    def whole(self, workload: Workload) -> int:
        """All requests at once, whole answers; gives the number of output tokens."""
        return self._runner.run(self._all(workload, stream=False))

    def streamed(self, workload: Workload) -> int:
        """All requests at once, streamed."""
        return self._runner.run(self._all(workload, stream=True))

    def first_token(self, prompt: list[int]) -> float:
        """One streamed request."""
        return self._runner.run(self._first_token(prompt))

    async def _all(self, workload: Workload, *, stream: bool) -> int:
        pairs = zip(workload.prompts, workload.output_lens, strict=True)
        return sum(await asyncio.gather(*(self._one(prompt, length, stream=stream) for prompt, length in pairs)))

    async def _one(self, prompt: list[int], output_len: int, *, stream: bool) -> int:
        exchange = await self._send(prompt, output_len, stream=stream)
        try:
            await exchange.wait()
        finally:
            exchange.close()
        answer = exchange.last_event() if stream else exchange.json()
        return int(answer["usage"]["completion_tokens"])

    async def _first_token(self, prompt: list[int]) -> float:
        exchange = await self._send(prompt, 2, stream=True)
        try:
            await exchange.wait()
        finally:
            exchange.close()
        if exchange.first is None:
            raise HooklineError("a streamed answer had no event")
        return exchange.first - exchange.started

    async def _send(self, prompt: list[int], output_len: int, *, stream: bool) -> HttpStream:
        exchange = await HttpStream.connect(self._url, on_data=_ignore if stream else None)
        body = {"prompt": prompt, "max_tokens": output_len, "temperature": 0, "ignore_eos": True, "stream": stream}
        exchange.post("/v1/completions", {**body, "stream_options": {"include_usage": True}} if stream else body)
        return exchange


def _ignore(data: bytes) -> None:
    pass
