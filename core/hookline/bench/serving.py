"""Serving load: concurrent streamed completions against a running server, timed from the client's side."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field

import httpx

from hookline.bench.workloads import Workload
from hookline.errors import HooklineError


@dataclass(slots=True)
class RequestTimes:
    """What the client saw of one request, in seconds."""

    started: float
    first_token: float | None = None
    finished: float | None = None
    gaps: list[float] = field(default_factory=list)
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingMeasurement:
    """All requests of a run."""

    seconds: float
    num_requests: int
    input_tokens: int
    output_tokens: int
    ttft: list[float]
    inter_token: list[float]

    @property
    def request_rate(self) -> float:
        """Requests per second."""
        return self.num_requests / self.seconds

    @property
    def output_rate(self) -> float:
        """Output tokens per second."""
        return self.output_tokens / self.seconds

    def percentiles(self) -> dict[str, float]:
        """Median and 99th percentile of time to first token and of the gaps between chunks, in seconds."""
        rows = {}
        for name, values in (("ttft", self.ttft), ("inter_token", self.inter_token)):
            ordered = sorted(values) or [0.0]
            rows[f"{name}_p50"] = statistics.median(ordered)
            rows[f"{name}_p99"] = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return rows


async def measure_serving(
    base_url: str, workload: Workload, *, concurrency: int, api_key: str | None = None, model: str | None = None
) -> ServingMeasurement:
    """Send the workload to ``/v1/completions`` as token ids, at most ``concurrency`` at a time, streamed.

    Raises ``HooklineError`` on the first failed request: a run with errors measures nothing.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    gate = asyncio.Semaphore(concurrency)
    async with httpx.AsyncClient(base_url=base_url, headers=headers, limits=limits, timeout=600) as client:
        name = model or await _served_model(client)

        async def one(prompt: list[int], output_len: int) -> RequestTimes:
            async with gate:
                return await _request(client, name, prompt, output_len)

        start = time.perf_counter()
        pairs = zip(workload.prompts, workload.output_lens, strict=True)
        times = await asyncio.gather(*(one(prompt, length) for prompt, length in pairs))
        seconds = time.perf_counter() - start
    return ServingMeasurement(
        seconds=seconds,
        num_requests=len(times),
        input_tokens=workload.num_input_tokens,
        output_tokens=sum(item.output_tokens for item in times),
        ttft=[item.first_token - item.started for item in times if item.first_token is not None],
        inter_token=[gap for item in times for gap in item.gaps],
    )


async def _served_model(client: httpx.AsyncClient) -> str:
    try:
        response = await client.get("/v1/models")
        response.raise_for_status()
    except httpx.HTTPError as exc:
        raise HooklineError(f"no server answers at {client.base_url}: {exc}; start one with `hookline serve`") from exc
    return str(response.json()["data"][0]["id"])


async def _request(client: httpx.AsyncClient, model: str, prompt: list[int], output_len: int) -> RequestTimes:
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": output_len,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    times = RequestTimes(started=time.perf_counter())
    last = times.started
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != httpx.codes.OK:
            text = (await response.aread()).decode(errors="replace")
            raise HooklineError(f"the server answered {response.status_code}: {text[:300]}")
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise HooklineError(f"a stream ended with an error: {event['error']}")
            if event.get("usage"):
                times.output_tokens = event["usage"]["completion_tokens"]
            if not event["choices"]:
                continue
            now = time.perf_counter()
            if times.first_token is None:
                times.first_token = now
            else:
                times.gaps.append(now - last)
            last = now
    times.finished = time.perf_counter()
    return times
