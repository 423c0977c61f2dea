"""What clients saw of a server: times of requests, their percentiles, and goodput under limits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 99)


@dataclass(slots=True, kw_only=True)
class RequestTimes:
    """What the client saw of one request, in seconds."""

    input_tokens: int
    wanted_tokens: int
    output_tokens: int = 0
    #: Until the first event with output.
    ttft: float = 0.0
    #: Until the end of the answer.
    e2e: float = 0.0
    #: From the first event with output to the last.
    decode: float = 0.0
    #: Between one event with output and the next.
    gaps: list[float] = field(default_factory=list)
    #: Why it failed, or "".
    error: str = ""

    def note(self, started: float, events: Sequence[float], ended: float) -> None:
        """Take the times of its events."""
        self.ttft = events[0] - started
        # The last event is read a moment after its bytes came.
        self.e2e = max(ended, events[-1]) - started
        self.decode = events[-1] - events[0]
        self.gaps = [after - before for before, after in itertools.pairwise(events)]

    @property
    def tpot(self) -> float | None:
        """Mean seconds per output token after the first; ``None`` where there is no other."""
        return self.decode / (self.output_tokens - 1) if self.output_tokens > 1 else None

    @property
    def is_short(self) -> bool:
        """Whether the server generated less than it was asked for."""
        return not self.error and self.output_tokens < self.wanted_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request must meet to count as good, in seconds; ``None`` is no limit."""

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.ttft, self.tpot, self.e2e))

    def are_met(self, times: RequestTimes) -> bool:
        """Whether a request did what was asked within all limits. A short or failed one did not."""
        if times.error or times.is_short:
            return False
        pairs = ((self.ttft, times.ttft), (self.tpot, times.tpot or 0.0), (self.e2e, times.e2e))
        return all(limit is None or value <= limit for limit, value in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingMeasurement:
    """All requests of a run."""

    #: From the first request to the last byte.
    seconds: float
    requests: list[RequestTimes]

    @property
    def done(self) -> list[RequestTimes]:
        """Those that did not fail."""
        return [times for times in self.requests if not times.error]

    @property
    def request_rate(self) -> float:
        """Answered requests per second."""
        return len(self.done) / self.seconds

    @property
    def output_rate(self) -> float:
        """Output tokens per second."""
        return sum(times.output_tokens for times in self.done) / self.seconds

    @property
    def input_rate(self) -> float:
        """Prompt tokens per second."""
        return sum(times.input_tokens for times in self.done) / self.seconds

    def goodput(self, limits: Limits) -> float:
        """Requests per second that met all limits."""
        return sum(limits.are_met(times) for times in self.requests) / self.seconds

    def latencies(self) -> dict[str, list[float]]:
        """Seconds of each kind: "ttft", "inter_token" (between events), "tpot" (a request's mean), "e2e"."""
        done = self.done
        return {
            "ttft": [times.ttft for times in done],
            "inter_token": [gap for times in done for gap in times.gaps],
            "tpot": [times.tpot for times in done if times.tpot is not None],
            "e2e": [times.e2e for times in done],
        }

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Kind -> "mean", "p50", "p90", "p99" in milliseconds; kinds without values are left out."""
        return {kind: summary(values) for kind, values in self.latencies().items() if values}

    def record(self, limits: Limits) -> dict[str, Any]:
        """Everything for JSON."""
        done = self.done
        values: dict[str, Any] = {
            "seconds": round(self.seconds, 4),
            "requests": len(self.requests),
            "failed": len(self.requests) - len(done),
            "short": sum(times.is_short for times in done),
            "requests_per_s": round(self.request_rate, 3),
            "output_tokens_per_s": round(self.output_rate, 1),
            "input_tokens_per_s": round(self.input_rate, 1),
            "latency_ms": self.percentiles(),
        }
        if limits:
            values["goodput_per_s"] = round(self.goodput(limits), 3)
            values["good_share"] = round(self.goodput(limits) * self.seconds / len(self.requests), 4)
        errors = sorted({times.error for times in self.requests if times.error})
        if errors:
            values["errors"] = errors[:5]
        return values


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles in milliseconds."""
    values = 1000 * np.asarray(seconds)
    found = {"mean": float(values.mean())}
    found |= {f"p{percent}": float(np.percentile(values, percent)) for percent in PERCENTILES}
    return {name: round(value, 3) for name, value in found.items()}
