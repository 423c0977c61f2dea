"""A pass for which the device has no memory costs one request; the others get the same tokens, a little later."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.scheduling import VOCAB_SIZE, Harness

SHARED = list(range(30, 50))


def add_three(harness: Harness) -> dict[str, list[int]]:
    """Requests that share a prefix, the second the longest; name -> prompt."""
    prompts = {"a": [*SHARED, 3, 4], "b": [*SHARED, *range(5, 20)], "c": [*SHARED, 9]}
    for rid, prompt in prompts.items():
        harness.add(rid, prompt, 12)
    return prompts


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("page_size", [1, 4])
@pytest.mark.parametrize("failing", [{1}, {2}, {5}, {3, 4}, {2, 6}])
def test_one_request_fails_and_the_others_go_on(
    checkpoint: Path, failing: set[int], page_size: int, overlap: bool
) -> None:
    worker = FakeWorker(page_size=page_size)
    worker.out_of_memory = failing
    harness = Harness(checkpoint, worker, overlap=overlap)
    prompts = add_three(harness)
    outputs = harness.run()
    # A pass that was launched before the failure was seen is given up along with it.
    is_one_failure = len(failing) == 1 or (overlap and failing == {3, 4})
    failed = [rid for rid in prompts if outputs[rid].reason == "abort"]
    assert len(failed) == (1 if is_one_failure else 2)
    if failing == {1}:
        assert failed == ["b"], "the largest one"
    for rid, prompt in prompts.items():
        if rid not in failed:
            assert outputs[rid].token_ids == expected_output(prompt, 12, VOCAB_SIZE)
    # What comes later finds nothing in the cache that was never computed.
    harness.add("d", [*SHARED, 77], 5)
    assert harness.run()["d"].token_ids == expected_output([*SHARED, 77], 5, VOCAB_SIZE)
    harness.assert_idle()


def test_the_error_names_what_to_do(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker = FakeWorker()
    worker.out_of_memory = {1}
    harness = Harness(checkpoint, worker)
    harness.add("a", range(9), 4)
    finish = harness.run()["a"].finish
    assert finish is not None
    assert finish.code == "out_of_memory"
    assert "no memory for the pass" in finish.message
    assert "schedule.max_prefill_tokens" in finish.message
    assert "request a fails, 0 others start again" in caplog.text
    harness.assert_idle()


def test_passes_that_always_fail_end_all_requests(checkpoint: Path) -> None:
    worker = FakeWorker()
    worker.out_of_memory = set(range(1, 100))
    harness = Harness(checkpoint, worker)
    add_three(harness)
    assert {output.reason for output in harness.run().values()} == {"abort"}
    harness.assert_idle()
