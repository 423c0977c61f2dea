"""execution.deterministic on a GPU: the same bits for a row whatever the batch, the chunks and the cache."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from hookline import Engine, SamplingParams
from hookline.messages.requests import LogprobRequest
from hookline.outputs import GenerationOutput

pytestmark = pytest.mark.gpu

ROW = [random.Random(1).randrange(5, 4000) for _ in range(77)]
#: A draw with every filter shows what only the last bits of a logit would hide.
PARAMS = SamplingParams(temperature=1.0, top_p=0.95, top_k=50, seed=4, max_new_tokens=24, ignore_eos=True)

Trace = list[tuple[int, list[tuple[int, float]]]]


def neighbours(count: int) -> list[list[int]]:
    rng = random.Random(count)
    return [[rng.randrange(5, 4000) for _ in range(rng.choice([1, 5, 40, 200]))] for _ in range(count)]


def trace(output: GenerationOutput) -> Trace:
    """Tokens, and the best four log-probabilities of each step: equal floats there mean equal bits of the logits."""
    assert output.logprobs is not None
    return [(token, entry.top) for token, entry in zip(output.output_ids, output.logprobs, strict=True)]


def run(engine: Engine, others: Sequence[list[int]], place: int = 0) -> Trace:
    """The row's trace among others."""
    batch = [*others[:place], ROW, *others[place:]]
    outputs = engine.generate(input_ids=batch, sampling_params=PARAMS, logprobs=LogprobRequest(output=True, top=4))
    return trace(outputs[place])


def engine(**settings: Any) -> Engine:
    return Engine("demo", device="cuda", dtype="bfloat16", deterministic=True, **settings)


@pytest.fixture(scope="module")
def alone() -> Trace:
    with engine(enable_prefix_cache=False) as one:
        return run(one, [])


def test_a_row_is_the_same_alone_in_batches_and_from_the_cache(alone: Trace) -> None:
    with engine() as one:
        # The first run fills the cache, the others take the prompt from it.
        assert run(one, []) == alone
        for count in (1, 6, 32):
            assert run(one, neighbours(count), place=count // 2) == alone, f"among {count}"
        assert run(one, []) == alone


def test_a_row_is_the_same_in_chunks(alone: Trace) -> None:
    with engine(chunked_prefill_size=32, enable_prefix_cache=False) as one:
        assert run(one, []) == alone
        assert run(one, neighbours(6), place=3) == alone


def test_a_row_is_the_same_without_graphs(alone: Trace) -> None:
    with engine(disable_cuda_graph=True, enable_prefix_cache=False) as one:
        assert run(one, neighbours(2), place=1) == alone
