"""What a server's intake of media tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFigures:
    """The state of the media pool, and what has passed through it since the start."""

    pool_bytes: int
    held_bytes: int
    max_bytes: int
    num_kept: int
    num_waiting: int
    num_decoding: int
    #: Kind -> media.
    decoded: Mapping[str, int]
    reused: Mapping[str, int]
    #: Code of an error -> media.
    refused: Mapping[str, int]
    fetched_bytes: int
    #: Stage -> seconds.
    seconds: Mapping[str, float]


#: field -> (metric, help), for values that go up and down
_GAUGES = {
    "pool_bytes": ("hookline_media_pool_bytes", "Bytes of media in the pool, those kept for later included"),
    "held_bytes": ("hookline_media_pool_held_bytes", "Bytes of media that requests use or wait for now"),
    "max_bytes": ("hookline_media_pool_capacity_bytes", "Bytes that the pool may have"),
    "num_kept": ("hookline_media_kept", "Processed media in the pool"),
    "num_waiting": ("hookline_media_requests_waiting", "Requests that wait for room in the pool"),
    "num_decoding": ("hookline_media_decoding", "Media being decoded, or waiting for a decoder"),
}
#: field -> (metric, help, label), for counts
_COUNTERS = {
    "decoded": ("hookline_media_decoded", "Media that were decoded and processed", "kind"),
    "reused": ("hookline_media_reused", "Media that were in the pool, or being decoded for another request", "kind"),
    "refused": ("hookline_media_refused", "Requests refused for their media, by the code of the error", "code"),
    "seconds": ("hookline_media_seconds", "Seconds by stage: fetch, decode (waiting for a decoder included)", "stage"),
}


class MediaCollector(Collector):
    """Shows the intake's own counts as they are."""

    def __init__(self, figures: Callable[[], MediaFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        figures = self._figures()
        for field, (name, documentation) in _GAUGES.items():
            yield GaugeMetricFamily(name, documentation, value=getattr(figures, field))
        for field, (name, documentation, label) in _COUNTERS.items():
            counter = CounterMetricFamily(name, documentation, labels=[label])
            for key, value in sorted(getattr(figures, field).items()):
                counter.add_metric([key], value)
            yield counter
        yield CounterMetricFamily(
            "hookline_media_fetched_bytes",
            "Bytes of media that came with requests or were fetched",
            value=figures.fetched_bytes,
        )
