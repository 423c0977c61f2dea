"""Penalties against transformers and plain arithmetic, across steps, row reuse and retraction."""

from __future__ import annotations

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from hookline.sampling_params import SamplingParams
from hookline.worker.penalties import PenaltyBatch, PenaltySlots, PenaltyTable
from tests.factories.sampling import SamplingHarness

VOCAB = 24


def random_logits(num_rows: int, seed: int) -> torch.Tensor:
    return torch.randn(num_rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


def expected_logits(
    logits_V: torch.Tensor, params: SamplingParams, prompt: list[int], output: list[int]
) -> torch.Tensor:
    """transformers' repetition penalty over prompt and output, then OpenAI's two over the output."""
    scores = logits_V.clone()[None]
    if params.repetition_penalty != 1.0:
        seen = torch.tensor([prompt + output])
        scores = RepetitionPenaltyLogitsProcessor(params.repetition_penalty)(seen, scores)
    scores = scores[0]
    for token in set(output):
        scores[token] -= params.frequency_penalty * output.count(token) + params.presence_penalty
    return scores


PARAMS = [
    SamplingParams(temperature=0.0, repetition_penalty=1.4),
    SamplingParams(temperature=0.0, repetition_penalty=0.6),
    SamplingParams(temperature=0.0, frequency_penalty=0.9),
    SamplingParams(temperature=0.0, presence_penalty=-1.5),
    SamplingParams(temperature=0.0, repetition_penalty=1.2, frequency_penalty=0.4, presence_penalty=0.3),
    SamplingParams(temperature=0.0),
]
PROMPTS = [[3, 3, 5], [1], [0, 23, 7], [2, 4], [9, 8, 8], [6]]


def test_penalties_follow_the_reference_step_by_step_in_a_mixed_batch() -> None:
    harness = SamplingHarness(VOCAB)
    for row, (params, prompt) in enumerate(zip(PARAMS, PROMPTS, strict=True)):
        harness.start(row, params, prompt=prompt)
    outputs: list[list[int]] = [[] for _ in PARAMS]
    for step in range(12):
        # Every pass holds other rows in another order.
        rows = [(step + i) % len(PARAMS) for i in range(1 + step % len(PARAMS))]
        logits = random_logits(len(rows), step)
        tokens = harness.sample(rows, logits)
        for i, row in enumerate(rows):
            expected = expected_logits(logits[i], PARAMS[row], PROMPTS[row], outputs[row])
            assert tokens[i] == int(expected.argmax())
            outputs[row].append(tokens[i])
    assert max(max(map(output.count, output)) for output in outputs) > 1


@pytest.mark.parametrize("params", PARAMS[:5])
def test_retracted_requests_keep_their_counts(params: SamplingParams) -> None:
    steps = [random_logits(1, seed) for seed in range(14)]
    whole = SamplingHarness(VOCAB)
    whole.start(0, params, prompt=PROMPTS[0])
    expected = [whole.sample([0], logits)[0] for logits in steps]

    harness = SamplingHarness(VOCAB)
    harness.start(0, params, prompt=PROMPTS[0])
    found = [harness.sample([0], logits)[0] for logits in steps[:7]]
    harness.rows.release(0)
    # Another request takes the row and the counts' slot meanwhile.
    harness.start(0, PARAMS[4], prompt=[10, 11])
    harness.sample([0], steps[0])
    harness.start(1, params, prompt=PROMPTS[0], output=found)
    found += [harness.sample([1], logits)[0] for logits in steps[7:]]
    assert found == expected


def test_a_reused_row_starts_without_the_old_counts() -> None:
    harness = SamplingHarness(VOCAB)
    params = SamplingParams(temperature=0.0, frequency_penalty=2.0)
    logits = random_logits(1, 0)
    harness.start(0, params)
    first = [harness.sample([0], logits)[0] for _ in range(3)]
    harness.rows.release(0)
    harness.start(0, params)
    assert [harness.sample([0], logits)[0] for _ in range(3)] == first
    assert len(set(first)) > 1


def test_slots_are_reused_and_only_penalised_rows_have_one() -> None:
    harness = SamplingHarness(VOCAB)
    for _ in range(5):
        harness.start(2, SamplingParams(presence_penalty=1.0))
        harness.start(3, SamplingParams())
    assert harness.rows.penalty_slots.num_slots == 1
    assert harness.rows.penalty_slot[3] == -1


def test_the_table_grows_without_losing_counts() -> None:
    params = SamplingParams(temperature=0.0, frequency_penalty=1.5)
    harness = SamplingHarness(VOCAB, num_rows=64)
    logits = random_logits(1, 1)
    harness.start(0, params)
    outputs = [harness.sample([0], logits)[0] for _ in range(2)]
    for row in range(1, 40):
        harness.start(row, params)
    outputs += [harness.sample([0], logits)[0] for _ in range(3)]
    reference: list[int] = []
    for _ in range(5):
        reference.append(int(expected_logits(logits[0], params, [1], reference).argmax()))
    assert outputs == reference


def test_placeholder_ids_above_the_vocabulary_are_not_counted() -> None:
    slots = PenaltySlots(VOCAB)
    table = PenaltyTable(VOCAB, torch.device("cpu"))
    slot = slots.assign(0)
    reset = slots.reset([(slot, [VOCAB + 5, 3], [])])
    table.reset(1, *(torch.from_numpy(array) for array in (reset.slots, reset.places, reset.values)))
    logits = torch.ones(1, VOCAB)
    factor = torch.tensor([2.0], dtype=torch.float64)
    batch = PenaltyBatch(index=None, slots=torch.tensor([slot]), repetition=factor, frequency=None, presence=None)
    table.apply(logits, batch)
    assert torch.nonzero(logits[0] != 1.0).flatten().tolist() == [3]
