"""Serving load: streamed completions against any server that speaks OpenAI's API, timed from the client's side.

Closed loop: so many clients, each of which sends its next request when it has its answer. Open loop: requests
arrive at random (Poisson) at a rate, whether or not the server keeps up.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from hookline.bench.event_reader import EventReader
from hookline.bench.http_stream import HttpStream
from hookline.bench.latencies import RequestTimes, ServingMeasurement
from hookline.bench.workloads import Workload
from hookline.errors import HooklineError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """A server and how to ask it."""

    #: "http://127.0.0.1:8000", with or without the path "/v1".
    url: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def root(self) -> str:
        """The URL without "/v1"."""
        return self.url.rstrip("/").removesuffix("/v1")

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """When requests are sent: ``concurrency`` clients in a closed loop, or ``rate`` requests a second."""

    concurrency: int | None = None
    rate: float | None = None
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.concurrency} clients" if self.rate is None else f"{self.rate:g} requests/s"


async def served_model(server: ServerAddress) -> str:
    """The first model that the server names. Raises ``HooklineError`` when it names none."""
    stream = await HttpStream.connect(server.root)
    try:
        stream.get("/v1/models", server.headers)
        await stream.wait()
    finally:
        stream.close()
    models = stream.json().get("data") or []
    if not models:
        raise HooklineError(f"{server.root}/v1/models names no model; name one with --model")
    return str(models[0]["id"])


async def measure_serving(
    server: ServerAddress, model: str, workload: Workload, arrivals: Arrivals
) -> ServingMeasurement:
    """Send the workload to ``/v1/completions`` as token ids, greedy, end tokens ignored.

    A request that fails is counted and its error kept. Raises ``HooklineError`` when all fail.
    """
    client = _Client(server, model)
    pairs = list(zip(workload.prompts, workload.output_lens, strict=True))
    start = time.perf_counter()
    if arrivals.rate is None:
        times = await _closed_loop(client, pairs, arrivals.concurrency or 1)
    else:
        times = await _open_loop(client, pairs, arrivals.rate, random.Random(arrivals.seed))
    seconds = time.perf_counter() - start
    if all(item.error for item in times):
        raise HooklineError(f"all {len(times)} requests failed; the first: {times[0].error}")
    return ServingMeasurement(seconds=seconds, requests=times)


_Pairs = list[tuple[list[int], int]]


async def _closed_loop(client: _Client, pairs: _Pairs, concurrency: int) -> list[RequestTimes]:
    left: Iterator[tuple[list[int], int]] = iter(pairs)
    times: list[RequestTimes] = []

    async def one_after_the_other() -> None:
        for prompt, output_len in left:
            times.append(await client.complete(prompt, output_len))

    await asyncio.gather(*(one_after_the_other() for _ in range(min(concurrency, len(pairs)))))
    return times


async def _open_loop(client: _Client, pairs: _Pairs, rate: float, rng: random.Random) -> list[RequestTimes]:
    tasks = []
    due = time.perf_counter()
    for prompt, output_len in pairs:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(client.complete(prompt, output_len, due=due)))
        due += rng.expovariate(rate)
    return list(await asyncio.gather(*tasks))


class _Client:
    """Sends requests, each over a connection of its own."""

    def __init__(self, server: ServerAddress, model: str) -> None:
        self._server = server
        self._model = model

    async def complete(self, prompt: list[int], output_len: int, *, due: float | None = None) -> RequestTimes:
        """One streamed completion. Times count from ``due``, or else from when the request is written."""
        times = RequestTimes(input_tokens=len(prompt), wanted_tokens=output_len)
        reader = EventReader()
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": output_len,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            stream = await HttpStream.connect(
                self._server.root, on_data=lambda data: reader.feed(data, is_chunked=stream.is_chunked)
            )
            try:
                stream.post("/v1/completions", body, self._server.headers)
                await stream.wait()
            finally:
                stream.close()
        except HooklineError as exc:
            times.error = str(exc)
            return times
        if reader.error is not None:
            times.error = f"the stream ended with an error: {reader.error}"
        elif not reader.times:
            times.error = "the stream had no output"
        else:
            times.note(stream.started if due is None else due, reader.times, stream.last)
        # One event is at least one token; a server that does not count is believed to send them one by one.
        times.output_tokens = len(reader.times) if reader.output_tokens is None else reader.output_tokens
        return times
