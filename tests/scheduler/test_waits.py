"""Gates keep requests out until they open, holds keep slots after the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.errors import RequestError
from hookline.scheduler.req import Req
from hookline.scheduler.waits import Gate
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.scheduling import VOCAB_SIZE, Harness
from tests.factories.waits import Door, Grip


def test_a_request_waits_for_all_its_gates_and_nobody_waits_with_it(checkpoint: Path) -> None:
    first, second = Door(), Door()

    def gate_of(door: Door, req: Req) -> Gate | None:
        return door if req.rid == "slow" else None

    harness = Harness(checkpoint, gate_sources=[lambda req: gate_of(first, req), lambda req: gate_of(second, req)])
    harness.add("slow", [5], 3)
    harness.add("fast", [6], 3)
    harness.run_until(lambda: "fast" in harness.finished)
    first.is_open = True
    harness.step()
    assert harness.state["num_gated"] == 1
    second.is_open = True
    outputs = harness.run()
    assert outputs["slow"].token_ids == expected_output([5], 3, VOCAB_SIZE)
    # An open gate is not asked again.
    assert first.num_polls <= second.num_polls
    harness.assert_idle()


@pytest.mark.parametrize(
    ("error", "status"), [(RequestError("no such thing", status_code=422), 422), (KeyError("oops"), 500)]
)
def test_a_gate_that_fails_ends_its_request_only(checkpoint: Path, error: Exception, status: int) -> None:
    door = Door()
    door.error = error
    harness = Harness(checkpoint, gate_sources=[lambda req: door if req.rid == "bad" else None])
    harness.add("bad", [5])
    harness.add("good", [6], 3)
    outputs = harness.run()
    finish = outputs["bad"].finish
    assert finish is not None
    assert (finish.type, finish.status_code) == ("abort", status)
    assert outputs["good"].reason == "length"
    assert door.was_cancelled
    harness.assert_idle()


def test_a_gate_source_that_fails_refuses_the_request(checkpoint: Path) -> None:
    def broken(req: Req) -> Gate | None:
        raise ZeroDivisionError

    harness = Harness(checkpoint, gate_sources=[broken])
    harness.add("a", [5])
    finish = harness.run()["a"].finish
    assert finish is not None
    assert finish.status_code == 500
    assert "a" not in harness.scheduler._roster


def test_requests_that_pass_a_gate_late_keep_their_place(checkpoint: Path) -> None:
    door = Door()
    harness = Harness(
        checkpoint,
        FakeWorker(max_running_requests=1),
        gate_sources=[lambda req: door if req.rid == "second" else None],
    )
    harness.add("first", [5], 4)
    harness.add("second", [6], 2)
    harness.add("third", [7], 2)
    harness.step()
    door.is_open = True
    harness.run()
    assert harness.finished == ["first", "second", "third"]


@pytest.mark.parametrize("cache", [True, False])
def test_a_hold_keeps_slots_and_row_until_it_lets_go(checkpoint: Path, cache: bool) -> None:
    grip = Grip()
    harness = Harness(checkpoint, cache=cache, hold_sources=[lambda req: grip if req.rid == "held" else None])
    harness.add("held", [5, 6, 7], 4)
    harness.run_until(lambda: "held" in harness.finished)
    total_rows = harness.state["total_rows"]
    for _ in range(3):
        harness.step()
        assert harness.state["free_rows"] == total_rows - 1
    assert harness.state["num_running"] == 0
    assert harness.scheduler.has_work
    # Others run meanwhile, and an emptied cache would take the slots away.
    harness.add("other", [8], 3)
    harness.run_until(lambda: "other" in harness.finished)
    assert "1 requests run" in harness.control("flush_cache").message
    grip.may_go = True
    harness.run()
    harness.assert_idle()


def test_a_request_that_needs_held_slots_waits_for_them(checkpoint: Path) -> None:
    grip = Grip()
    harness = Harness(
        checkpoint,
        FakeWorker(max_total_tokens=24),
        cache=False,
        hold_sources=[lambda req: grip if req.rid == "held" else None],
    )
    harness.add("held", [5] * 16, 4)
    harness.add("next", [6] * 16, 4)
    harness.run_until(lambda: "held" in harness.finished)
    for _ in range(20):
        harness.step()
    assert harness.state["num_waiting"] == 1
    grip.may_go = True
    assert harness.run()["next"].token_ids == expected_output([6] * 16, 4, VOCAB_SIZE)
    harness.assert_idle()


def test_a_hold_that_fails_lets_go(checkpoint: Path) -> None:
    grip = Grip()
    grip.error = OSError("the peer is gone")
    harness = Harness(checkpoint, hold_sources=[lambda req: grip])
    harness.add("a", [5], 2)
    harness.run()
    harness.assert_idle()
