"""Prometheus metrics of a server. The help texts are the definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hookline.messages.control import SchedulerStats
from hookline.observability.histogram import Histogram
from hookline.observability.media_metrics import MediaCollector, MediaFigures

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)

#: field of SchedulerStats -> (metric, help), for values that go up and down
_GAUGES = {
    "num_running": ("hookline_requests_running", "Requests in the running batch"),
    "num_waiting": ("hookline_requests_waiting", "Requests in the scheduler's queue"),
    "num_gated": ("hookline_requests_gated", "Requests that wait for a grammar or an adapter before they are queued"),
    "used_tokens": ("hookline_kv_tokens_used", "KV cache slots in use, cached prefixes included"),
    "total_tokens": ("hookline_kv_tokens_capacity", "KV cache slots in all"),
    "embedding_bytes": ("hookline_embedding_bytes", "Device memory that the encoder's rows of media take"),
    "embedding_host_bytes": ("hookline_embedding_host_bytes", "Host memory that the encoder's rows of media take"),
}
#: The same for values that only grow.
_COUNTERS = {
    "num_retractions_total": ("hookline_retractions", "Requests put back into the queue for lack of KV cache"),
    "steps_total": ("hookline_steps", "Completed passes of the model"),
    "media_items_total": ("hookline_media_items", "Pictures and runs of frames of requests that came to their turn"),
    "media_reused_total": (
        "hookline_media_items_reused",
        "Items whose embedding rows or KV were there or being made; divided by hookline_media_items_total it is the "
        "hit rate",
    ),
    "media_encoded_total": ("hookline_media_items_encoded", "Items that the encoder made rows of"),
    "encoder_patches_total": ("hookline_encoder_patches", "The encoder's work in patches"),
}


class Metrics:
    """Everything that ``/metrics`` shows. Updated by the tokenizer manager, on the event loop only."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._scheduler = _SchedulerCollector()
        registry.register(self._scheduler)
        self._in_flight = Gauge(
            "hookline_requests_in_flight", "Requests accepted and not answered to the end", registry=registry
        )
        self._requests = Counter(
            "hookline_requests",
            "Choices that ended, by reason: stop, length, abort (engine or client), error (refused before the engine)",
            ["finish_reason"],
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "hookline_prompt_tokens", "Prompt tokens of ended choices, cached ones included", registry=registry
        )
        self._cached_tokens = Counter(
            "hookline_cached_prompt_tokens",
            "Prompt tokens of ended choices whose KV was in the prefix cache; divided by "
            "hookline_prompt_tokens_total it is the hit rate",
            registry=registry,
        )
        self._generated_tokens = Counter(
            "hookline_generated_tokens", "Output tokens received from the engine", registry=registry
        )
        self._stages = Counter(
            "hookline_frontend_seconds", "Seconds of the frontend by stage: tokenize", ["stage"], registry=registry
        )
        self._tokenize = self._stages.labels("tokenize")
        self._ttft = Histogram(
            "hookline_time_to_first_token_seconds",
            "Seconds from the receipt of a request to its first output token in the frontend",
            _SECONDS,
            registry,
        )
        self._inter_token = Histogram(
            "hookline_inter_token_seconds",
            "Seconds between output tokens of one choice; tokens that come together share their time evenly",
            _TOKEN_SECONDS,
            registry,
        )
        self._queue = Histogram(
            "hookline_queue_seconds",
            "Seconds from the receipt of a choice to the first pass that holds it",
            _SECONDS,
            registry,
        )
        self._request_seconds = Histogram(
            "hookline_request_seconds",
            "Seconds from the receipt of a request to the end of its last choice",
            (*_SECONDS, 160.0, 320.0, 640.0),
            registry,
        )

    def request_started(self) -> None:
        """A request was accepted."""
        self._in_flight.inc()

    def request_ended(self, seconds: float | None) -> None:
        """A request is over; ``seconds`` since its receipt, or ``None`` if it did not run to its end."""
        self._in_flight.dec()
        if seconds is not None:
            self._request_seconds.observe(seconds)

    def request_refused(self) -> None:
        """A request failed before it reached the engine."""
        self._requests.labels("error").inc()

    def choice_ended(self, reason: str, *, prompt_tokens: int, cached_tokens: int, queue_seconds: float) -> None:
        """A choice is over, for ``reason`` (a ``FinishReason.type``)."""
        self._requests.labels(reason).inc()
        self._prompt_tokens.inc(prompt_tokens)
        self._cached_tokens.inc(cached_tokens)
        self._queue.observe(queue_seconds)

    def first_token(self, seconds: float) -> None:
        """The first output token of a request came, ``seconds`` after its receipt."""
        self._ttft.observe(seconds)

    def tokens(self, count: int) -> None:
        """``count`` output tokens came, of whatever choices."""
        self._generated_tokens.inc(count)

    def token_gap(self, seconds: float, count: int) -> None:
        """``count`` output tokens of one choice came, ``seconds`` after the ones before."""
        self._inter_token.observe(seconds / count, count)

    def tokenized(self, seconds: float) -> None:
        """A request was checked and tokenized."""
        self._tokenize.inc(seconds)

    def scheduler_report(self, stats: SchedulerStats) -> None:
        """The scheduler's latest figures."""
        self._scheduler.stats = stats

    def watch_media(self, figures: Callable[[], MediaFigures]) -> None:
        """Show the figures of the server's intake of media."""
        self._registry.register(MediaCollector(figures))

    def exposition(self) -> tuple[bytes, str]:
        """The text for Prometheus, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _SchedulerCollector(Collector):
    """Shows the scheduler's own counts as they are, so that nothing is counted twice."""

    def __init__(self) -> None:
        self.stats: SchedulerStats | None = None

    def collect(self) -> Iterable[Metric]:
        stats = self.stats
        for field, (name, documentation) in _GAUGES.items():
            yield GaugeMetricFamily(name, documentation, value=getattr(stats, field) if stats else 0)
        for field, (name, documentation) in _COUNTERS.items():
            yield CounterMetricFamily(name, documentation, value=getattr(stats, field) if stats else 0)
        stages = CounterMetricFamily(
            "hookline_scheduler_seconds",
            "Seconds of the scheduler's loop by stage: schedule, launch, wait for the device, process results, send",
            labels=["stage"],
        )
        for stage, seconds in sorted(stats.stage_seconds.items()) if stats else ():
            stages.add_metric([stage], seconds)
        yield stages
