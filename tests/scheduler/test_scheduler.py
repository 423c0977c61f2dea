"""The loops: what is launched when, and what comes out."""

from __future__ import annotations

from pathlib import Path

from tests.factories.fake_worker import FakeWorker, expected_output
from tests.factories.scheduling import VOCAB_SIZE, Harness


def test_one_request_gives_the_tokens_of_the_model(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5, 6, 7], 12)
    outputs = harness.run()
    assert outputs["a"].token_ids == expected_output([5, 6, 7], 12, VOCAB_SIZE)
    assert outputs["a"].reason == "length"
    harness.assert_idle()
