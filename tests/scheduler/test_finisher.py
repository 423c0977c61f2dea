"""Aborts reach a request wherever it stands, and nothing of it is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.messages.outputs import FinishReason
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.scheduling import VOCAB_SIZE, Harness
from tests.factories.waits import Door


def aborted(harness: Harness, rid: str) -> None:
    """The request has ended with an abort, after exactly the tokens that it should have had so far."""
    output = harness.outputs[rid]
    assert output.finish is not None
    assert (output.finish.type, output.finish.status_code, output.finish.code) == ("abort", 499, "aborted")
    assert output.finish.message == "aborted by the client"


@pytest.mark.parametrize("overlap", [True, False])
def test_abort_of_a_waiting_request(checkpoint: Path, overlap: bool) -> None:
    harness = Harness(checkpoint, FakeWorker(max_running_requests=1), overlap=overlap)
    harness.add("runs", [5], 6)
    harness.add("waits", [6], 6)
    harness.step()
    harness.abort("waits")
    harness.step()
    aborted(harness, "waits")
    assert harness.run()["runs"].token_ids == expected_output([5], 6, VOCAB_SIZE)
    harness.assert_idle()


@pytest.mark.parametrize("overlap", [True, False])
def test_abort_in_the_middle_of_a_chunked_prompt_ends_it_at_once(checkpoint: Path, overlap: bool) -> None:
    harness = Harness(checkpoint, overlap=overlap, chunk=4)
    harness.add("a", range(40), 6)
    harness.run_until(lambda: len(harness.worker.batches) == 3)
    harness.abort("a")
    harness.step()
    aborted(harness, "a")
    assert len(harness.worker.batches) == 3
    harness.run()
    harness.assert_idle()


@pytest.mark.parametrize("overlap", [True, False])
def test_abort_of_a_running_request_frees_it_and_spares_its_mates(checkpoint: Path, overlap: bool) -> None:
    harness = Harness(checkpoint, overlap=overlap)
    harness.add("a", [5, 6], 30)
    harness.add("b", [7, 8], 30)
    harness.run_until(lambda: len(harness.worker.batches) == 6)
    harness.abort("a")
    harness.step()
    aborted(harness, "a")
    outputs = harness.run()
    tokens = outputs["a"].token_ids
    assert tokens == expected_output([5, 6], len(tokens), VOCAB_SIZE)
    assert outputs["b"].token_ids == expected_output([7, 8], 30, VOCAB_SIZE)
    harness.assert_idle()


def test_abort_while_the_last_token_is_being_computed(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5, 6], 3)
    harness.run_until(lambda: len(harness.worker.batches) == 3)
    harness.abort("a")
    harness.run()
    aborted(harness, "a")
    assert len(harness.outputs["a"].token_ids) < 3
    harness.assert_idle()


def test_abort_behind_a_gate_closes_it(checkpoint: Path) -> None:
    door = Door()
    harness = Harness(checkpoint, gate_sources=[lambda req: door])
    harness.add("a", [5])
    harness.step()
    harness.abort("a")
    harness.step()
    aborted(harness, "a")
    assert door.was_cancelled
    assert not harness.scheduler.has_work
    harness.assert_idle()


def test_abort_after_the_end_changes_nothing(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5], 2)
    harness.run()
    harness.abort("a", "never seen")
    harness.run()
    assert harness.outputs["a"].reason == "length"
    harness.assert_idle()


def test_an_id_that_begins_another_id_is_left_alone(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("r1", [5], 9)
    harness.add("r10", [6], 9)
    harness.step()
    harness.abort("r1")
    outputs = harness.run()
    aborted(harness, "r1")
    assert outputs["r10"].token_ids == expected_output([6], 9, VOCAB_SIZE)


def test_abort_of_all_reaches_every_state(checkpoint: Path) -> None:
    gates = {"gated": Door()}
    harness = Harness(
        checkpoint, FakeWorker(max_running_requests=3), chunk=4, gate_sources=[lambda req: gates.get(req.rid)]
    )
    harness.add("gated", [5])
    harness.add("running", [6], 30)
    harness.run_until(lambda: len(harness.worker.batches) == 2)
    harness.add("chunked", range(30))
    harness.add("waiting", range(50))
    harness.step()
    harness.abort(everything=True)
    harness.step()
    for rid in ("gated", "running", "chunked", "waiting"):
        aborted(harness, rid)
    harness.run()
    harness.assert_idle()


def test_a_fault_ends_its_request_only_and_leaves_no_kv(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.worker.faults["bad"] = 3
    harness.add("bad", [5, 6], 12)
    harness.add("good", [7, 8], 12)
    outputs = harness.run()
    assert outputs["good"].token_ids == expected_output([7, 8], 12, VOCAB_SIZE)
    finish = outputs["bad"].finish
    assert finish is not None
    assert (finish.type, finish.status_code) == ("abort", 500)
    assert "nan" in finish.message
    assert outputs["bad"].token_ids == expected_output([5, 6], 3, VOCAB_SIZE)
    harness.assert_idle()
    # The output's KV was thrown away: a next turn finds the prompt only.
    harness.add("again", [5, 6, *outputs["bad"].token_ids, 9], 1)
    stats = harness.run()["again"].stats
    assert stats is not None
    assert stats.cached_tokens == 2


def test_ending_twice_is_a_bug(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5], 9)
    harness.step()
    req = harness.scheduler._roster.get("a")
    assert req is not None
    harness.abort("a")
    harness.run()
    with pytest.raises(AssertionError, match="request a ends twice"):
        harness.scheduler._finisher.finish(req, FinishReason(type="stop"))
