"""The histogram against prometheus_client's own, value for value."""

from __future__ import annotations

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from hookline.observability.histogram import Histogram

_BOUNDS = (0.125, 0.5, 2.0)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 8.0]), st.integers(1, 4)), max_size=12))
def test_exposition_equals_the_client_librarys(values: list[tuple[float, int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("h", "help", _BOUNDS, ours)
    reference = prometheus_client.Histogram("h", "help", buckets=_BOUNDS, registry=theirs)
    for value, count in values:
        mine.observe(value, count)
        for _ in range(count):
            reference.observe(value)
    expected = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == expected
