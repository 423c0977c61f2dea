"""The Engine against transformers: greedy output is the argmax of the same checkpoint, however it is scheduled."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hookline import Engine, SamplingParams
from tests.factories.checkpoints import FAMILIES, VOCAB_SIZE

STEPS = 64
EOS = 2
#: Logits of two correct float32 implementations differ by rounding only.
TOLERANCE = 1e-3


def greedy(**changes: Any) -> SamplingParams:
    # Not ignore_eos: the scheduler would then know the lengths and never need to retract.
    return SamplingParams(temperature=0.0, max_new_tokens=STEPS, min_new_tokens=STEPS, **changes)


def prompts(count: int = 5, seed: int = 0, shared: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    prefix = [rng.randrange(5, VOCAB_SIZE) for _ in range(shared)]
    return [
        prefix + [rng.randrange(5, VOCAB_SIZE) for _ in range(rng.choice([1, 7, 16, 33, 70]))] for _ in range(count)
    ]


def load_reference(path: Path) -> transformers.PreTrainedModel:
    config = transformers.AutoConfig.from_pretrained(path)
    auto = (
        transformers.AutoModelForImageTextToText
        if hasattr(config, "vision_config")
        else transformers.AutoModelForCausalLM
    )
    return auto.from_pretrained(path, dtype=torch.float32).eval()


def assert_greedy(model: transformers.PreTrainedModel, prompt: Sequence[int], output: Sequence[int]) -> None:
    """Each output token is the reference's best one, given the tokens before it."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *output]])).logits[0].float()
    steps = logits[len(prompt) - 1 : -1].clone()
    steps[:, EOS] = float("-inf")
    best = steps.max(dim=-1).values
    chosen = steps.gather(1, torch.tensor(output)[:, None])[:, 0]
    worst = (best - chosen).max().item()
    assert worst < TOLERANCE, f"a token was {worst} below the best"


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_output_is_that_of_transformers(family: str, checkpoint: Callable[[str], Path]) -> None:
    path = checkpoint(family)
    reference = load_reference(path)
    batch = prompts()
    with Engine(path, dtype="float32") as engine:
        outputs = engine.generate(input_ids=batch, sampling_params=greedy())
        single = engine.generate(input_ids=[batch[-1]], sampling_params=greedy())
    assert [len(output.output_ids) for output in outputs] == [STEPS] * len(batch)
    for prompt, output in zip(batch, outputs, strict=True):
        assert_greedy(reference, prompt, output.output_ids)
    assert single[0].output_ids == outputs[-1].output_ids


VARIANTS: dict[str, dict[str, Any]] = {
    "page 16": {"page_size": 16},
    "page 64": {"page_size": 64},
    "chunks of 16": {"chunked_prefill_size": 16, "page_size": 16},
    "chunks of 1": {"chunked_prefill_size": 1},
    "chunks of 23": {"chunked_prefill_size": 23},
    "mixed chunks": {"chunked_prefill_size": 16, "enable_mixed_chunk": True},
    "no overlap": {"disable_overlap_schedule": True},
    "no overlap, mixed": {"disable_overlap_schedule": True, "chunked_prefill_size": 8, "enable_mixed_chunk": True},
    "no prefix cache": {"enable_prefix_cache": False},
    "lpm": {"schedule_policy": "lpm"},
    "small pool, retraction": {"kv_cache_tokens": 256, "schedule_conservativeness": 0.05},
    "small pool, page 16": {"kv_cache_tokens": 320, "page_size": 16, "schedule_conservativeness": 0.05},
    "two at a time": {"max_running_requests": 2},
}


@pytest.fixture(scope="module")
def expected(checkpoint: Callable[[str], Path]) -> list[list[int]]:
    with Engine(checkpoint("qwen3_moe"), dtype="float32") as engine:
        outputs = engine.generate(input_ids=prompts(shared=40), sampling_params=greedy())
    return [output.output_ids for output in outputs]


@pytest.mark.parametrize("variant", VARIANTS)
def test_output_does_not_depend_on_the_schedule(
    variant: str, checkpoint: Callable[[str], Path], expected: list[list[int]]
) -> None:
    batch = prompts(shared=40)
    with Engine(checkpoint("qwen3_moe"), dtype="float32", check_ledger=True, **VARIANTS[variant]) as engine:
        cold = engine.generate(input_ids=batch, sampling_params=greedy())
        warm = engine.generate(input_ids=batch, sampling_params=greedy())
        state = engine.server_state()
    assert [output.output_ids for output in cold] == expected
    assert [output.output_ids for output in warm] == expected
    assert state["num_running"] == 0
    if "pool" in variant:
        assert state["num_retractions_total"] > 0
    if VARIANTS[variant].get("enable_prefix_cache", True) and "pool" not in variant:
        assert sum(output.usage.cached_tokens for output in warm) > 0
