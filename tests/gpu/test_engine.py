"""The engine on a CUDA device: the same greedy output as transformers, however it is scheduled."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hookline import Engine, SamplingParams
from hookline.config.resolve import resolve_engine
from hookline.config.sources import load_config
from hookline.plugins.manager import load_plugins

pytestmark = pytest.mark.gpu

STEPS = 64
DEMO = Path(__file__).parents[2] / "plugins" / "demo" / "hookline_demo" / "checkpoint"
#: The demo's ordinary tokens; its special ones, which stand for pictures among other things, come after.
ORDINARY = 4000
#: Logits of two correct float32 implementations differ by rounding only.
TOLERANCE = 2e-3


def greedy() -> SamplingParams:
    return SamplingParams(temperature=0.0, max_new_tokens=STEPS, ignore_eos=True)


def prompts(count: int = 6, shared: int = 40) -> list[list[int]]:
    rng = random.Random(5)
    prefix = [rng.randrange(5, ORDINARY) for _ in range(shared)]
    return [prefix + [rng.randrange(5, ORDINARY) for _ in range(rng.choice([1, 7, 33, 150]))] for _ in range(count)]


@pytest.fixture(scope="module")
def reference() -> transformers.PreTrainedModel:
    model = transformers.AutoModelForImageTextToText.from_pretrained(DEMO, dtype=torch.float32)
    torch.nn.Module.to(model, "cuda")
    return model.eval()


def worst_regret(model: transformers.PreTrainedModel, prompt: list[int], output: list[int]) -> float:
    """How far below the reference's best logit an output token was, at most."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *output]], device="cuda")).logits[0].float().cpu()
    steps = logits[len(prompt) - 1 : -1]
    return float((steps.max(dim=-1).values - steps.gather(1, torch.tensor(output)[:, None])[:, 0]).max())


VARIANTS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "no overlap": {"disable_overlap_schedule": True},
    "page 16, chunks": {"page_size": 16, "chunked_prefill_size": 32},
    "mixed chunks": {"chunked_prefill_size": 32, "enable_mixed_chunk": True},
    "deterministic": {"deterministic": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_output_is_that_of_transformers(variant: str, reference: transformers.PreTrainedModel) -> None:
    batch = prompts()
    with Engine("demo", dtype="float32", device="cuda", check_ledger=True, **VARIANTS[variant]) as engine:
        cold = engine.generate(input_ids=batch, sampling_params=greedy())
        warm = engine.generate(input_ids=batch, sampling_params=greedy())
    for prompt, first, second in zip(batch, cold, warm, strict=True):
        assert worst_regret(reference, prompt, list(first.output_ids)) < TOLERANCE
        assert worst_regret(reference, prompt, list(second.output_ids)) < TOLERANCE


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_answers(dtype: str) -> None:
    with Engine("demo", dtype=dtype, device="cuda") as engine:
        answer = engine.chat([{"role": "user", "content": "What is the capital of France?"}])
        many = engine.generate(["What is 12 + 30?"] * 16, SamplingParams(temperature=0.8, max_new_tokens=32, seed=3))
    assert "Paris" in answer.text
    assert len(many) == 16


def test_sampling_features_on_the_device() -> None:
    """Penalties, logprobs, seeds, a schema, an adapter: all in one batch."""
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    settings = [
        SamplingParams(temperature=0.9, seed=1, top_p=0.9, top_k=20, max_new_tokens=16),
        SamplingParams(temperature=0.0, repetition_penalty=1.3, presence_penalty=0.5, max_new_tokens=16),
        SamplingParams(temperature=0.0, json_schema=schema, max_new_tokens=48),
        SamplingParams(temperature=0.7, min_p=0.1, max_new_tokens=16),
    ]
    with Engine("demo", device="cuda") as engine:
        first = engine.generate(["Say something."] * 4, settings)
        again = engine.generate(["Say something."] * 4, settings)
    assert first[0].output_ids == again[0].output_ids
    assert first[1].output_ids == again[1].output_ids
    assert len(first) == 4


def test_auto_takes_the_device() -> None:
    config = load_config(environ={}, keywords={}).config
    plan = resolve_engine(config, load_plugins(config), for_server=False)
    assert plan.config.execution.device == "cuda"
