"""The timeline of a start: phases without gaps, and the sum that a server shows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hookline.observability.timeline import PHASES, Timeline, process_started, timeline_text, whole_start


def test_phases_follow_each_other_without_gaps() -> None:
    clock: Iterator[float] = iter([13.0, 13.5, 14.0, 20.0])
    timeline = Timeline(started=10.0, clock=lambda: next(clock))
    timeline.mark("import")
    timeline.mark("weights")
    timeline.mark("config")
    assert timeline.seconds == {"import": 3.0, "config": 0.5, "weights": 0.5}
    timeline.mark("config")
    assert timeline.seconds["config"] == 6.5
    assert list(timeline.seconds) == ["import", "config", "weights"]
    assert sum(timeline.seconds.values()) == 20.0 - 10.0


def test_a_phase_that_is_none_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="no phase of a start: breakfast"):
        Timeline().mark("breakfast")


def test_a_server_counts_what_came_before_and_after_its_scheduler() -> None:
    phases = {"import": 1.0, "config": 0.5, "weights": 2.0, "kernels": 0.25, "graphs": 0.0, "ready": 0.25}
    found = whole_start(phases, until_ready=4.5, total=5.0)
    assert found == {**phases, "import": 1.5, "ready": 0.75}
    assert list(found) == list(PHASES)
    assert sum(found.values()) == 5.0
    # A stand-in scheduler reports nothing.
    assert whole_start({}, until_ready=4.0, total=5.0)["import"] == 4.0
    assert timeline_text({"import": 1.0, "ready": 0.5}) == "import 1.00 s, ready 0.50 s, 1.50 s in all"


def test_this_process_began_before_now_but_not_long_before_its_own_time() -> None:
    age = time.monotonic() - process_started()
    assert time.process_time() * 0.1 - 0.1 <= age < 24 * 3600
