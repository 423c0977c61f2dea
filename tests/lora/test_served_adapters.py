"""Adapters through the Engine: named per request, mixed in a batch, never sharing a prefix."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from hookline import Engine, SamplingParams
from hookline.errors import ModelError, RequestError
from tests.factories.adapters import make_adapter, merged_model
from tests.factories.checkpoints import VOCAB_SIZE, make_checkpoint

STEPS = 24
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=STEPS, ignore_eos=True)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base"), "qwen3")


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        "wide": make_adapter(base, root / "wide", seed=1, r=8, target_modules=ALL),
        "narrow": make_adapter(base, root / "narrow", seed=2, r=2, target_modules=["q_proj", "down_proj"]),
    }


@pytest.fixture
def engine(base: Path, adapters: dict[str, Path]) -> Iterator[Engine]:
    served = {name: str(path) for name, path in adapters.items()}
    with Engine(base, dtype="float32", lora_adapters=served, check_ledger=True) as engine:
        yield engine


def assert_greedy(base: Path, adapter: Path | None, prompt: Sequence[int], output: Sequence[int]) -> None:
    """Each token is the best of the merged model, given those before it."""
    with torch.inference_mode():
        logits = merged_model(base, adapter)(input_ids=torch.tensor([[*prompt, *output]])).logits[0]
    steps = logits[len(prompt) - 1 : -1]
    chosen = steps.gather(1, torch.tensor(output)[:, None])[:, 0]
    assert (steps.max(-1).values - chosen).max() < 1e-3


def test_adapters_and_the_base_model_share_a_batch(engine: Engine, base: Path, adapters: dict[str, Path]) -> None:
    rng = random.Random(0)
    names = ["wide", None, "narrow", "wide", None]
    prompts = [[rng.randrange(5, VOCAB_SIZE) for _ in range(length)] for length in (20, 5, 33, 1, 12)]
    outputs = engine.generate(input_ids=prompts, sampling_params=GREEDY, lora=names)
    for name, prompt, output in zip(names, prompts, outputs, strict=True):
        assert_greedy(base, adapters[name] if name else None, prompt, output.output_ids)


def test_a_prefix_is_not_shared_between_adapters(engine: Engine, base: Path, adapters: dict[str, Path]) -> None:
    prompt = list(range(30, 70))
    for name in (None, "wide", "narrow"):
        cold, warm = (engine.generate(input_ids=[prompt], sampling_params=GREEDY, lora=name)[0] for _ in range(2))
        assert cold.usage.cached_tokens == 0
        assert warm.usage.cached_tokens > 0
        assert warm.output_ids == cold.output_ids
        assert_greedy(base, adapters[name] if name else None, prompt, cold.output_ids)


def test_an_unknown_adapter_fails_the_request_alone(engine: Engine) -> None:
    with pytest.raises(RequestError, match="wrong"):
        engine.generate(input_ids=[[5, 6]], sampling_params=GREEDY, lora="wrong")
    assert len(engine.generate(input_ids=[[5, 6]], sampling_params=GREEDY, lora="wide")[0].output_ids) == STEPS


def test_a_broken_adapter_ends_the_start(base: Path, tmp_path: Path) -> None:
    broken = make_adapter(base, tmp_path / "broken", r=4, use_dora=True)
    with pytest.raises(ModelError, match="DoRA"):
        Engine(base, dtype="float32", lora_adapters={"broken": str(broken)})
