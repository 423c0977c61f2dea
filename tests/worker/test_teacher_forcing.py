"""Forced tokens: prompts and decodes have the logits that transformers gives for the whole text."""

from __future__ import annotations

import random

import pytest
import torch
import transformers

from tests.factories.checkpoints import VOCAB_SIZE
from tests.factories.teacher_forcing import expected_logits, forced_logits, rms_error
from tests.worker.conftest import MakeWorker


@pytest.mark.parametrize("batch_size", [1, 3])
def test_logits_along_given_tokens_are_those_of_transformers(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel, batch_size: int
) -> None:
    rng = random.Random(batch_size)
    rows = [[rng.randrange(5, VOCAB_SIZE) for _ in range(30)] for _ in range(batch_size)]
    lens = [4 + 7 * index for index in range(batch_size)]
    got = forced_logits(make_worker(), rows, lens, 5)
    with torch.inference_mode():
        expected = expected_logits(reference(torch.tensor(rows)).logits, lens, 5)
    assert got.decoded.shape == (5, batch_size, VOCAB_SIZE)
    assert rms_error(got.prompts, expected.prompts) < 1e-4
    assert rms_error(got.decoded, expected.decoded) < 1e-4
    # Rows of another place are far off, so this test can tell.
    assert rms_error(got.decoded[1:], expected.decoded[:-1]) > 0.1
