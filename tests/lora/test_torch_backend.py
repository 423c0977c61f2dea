"""The torch LoRA backend on adapters that peft wrote, against weights that peft has merged."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from hookline.errors import ModelError
from hookline.interfaces.lora import LoRABackendSpec
from hookline.testkit.model_harness import ModelHarness
from hookline_lora.plugin import PLUGIN, hookline_lora_backends
from hookline_lora.torch_backend import TorchLoRABackend
from tests.factories.adapters import make_adapter, merged_model
from tests.factories.checkpoints import VOCAB_SIZE, make_checkpoint

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]


def ids_of(length: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(5, VOCAB_SIZE) for _ in range(length)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def make(family: str) -> Path:
        return make_checkpoint(tmp_path_factory.mktemp(family), family)

    return make


def reference(base: Path, adapter: Path | None) -> Callable[[Sequence[int]], torch.Tensor]:
    """ids -> logits [n, V] of the checkpoint with the adapter merged into its weights."""
    model = merged_model(base, adapter)

    @torch.inference_mode()
    def logits(ids: Sequence[int]) -> torch.Tensor:
        return model(input_ids=torch.tensor([list(ids)])).logits[0].float()

    return logits


def with_adapters(base: Path, adapters: dict[str, Path], **options: Any) -> ModelHarness:
    harness = ModelHarness.load(base, max_adapters=4, **options)
    assert harness.lora is not None
    for slot, (name, path) in enumerate(adapters.items(), start=1):
        harness.lora.load(slot, name, path)
    return harness


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


def test_hook_hookline_lora_backends() -> None:
    (spec,) = hookline_lora_backends()
    assert isinstance(spec, LoRABackendSpec)
    assert spec.kind in PLUGIN.provides
    assert spec.target == f"{TorchLoRABackend.__module__}:{TorchLoRABackend.__name__}"


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"target_modules": ALL}),
        ("qwen2", {"target_modules": ["q_proj", "up_proj"]}),
        ("qwen3", {"target_modules": ["v_proj", "gate_proj", "o_proj"], "lora_alpha": 5}),
        ("qwen3_moe", {"target_modules": ATTENTION}),
        ("qwen3_vl_moe", {"target_modules": r".*language_model.*\.(q|k|v|o)_proj"}),
        ("qwen3", {"target_modules": ALL, "use_rslora": True}),
        (
            "qwen3",
            {"target_modules": ALL, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers\.1\..*v_proj": 40}},
        ),
        ("qwen3", {"target_modules": ALL, "layers_to_transform": [1], "init_lora_weights": "gaussian"}),
    ],
)
def test_an_adapter_gives_the_logits_of_merged_weights(
    family: str, settings: dict[str, Any], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    base = checkpoint(family)
    adapter = make_adapter(base, tmp_path / "a", **settings)
    harness = with_adapters(base, {"a": adapter})
    harness.adapters = {"tuned": 1}
    ids = ids_of(20)
    got = harness.step({"tuned": ids, "plain": ids}, all_logits=True)
    tuned, plain = reference(base, adapter)(ids), reference(base, None)(ids)
    assert (tuned - plain).abs().max() > 0.1
    assert_close(got["tuned"], tuned)
    assert_close(got["plain"], plain)


def test_what_the_model_cannot_take_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = checkpoint("qwen3")
    backend = with_adapters(base, {}).lora
    assert backend is not None
    with pytest.raises(ModelError, match=r"rank 32 .* above lora\.max_lora_rank = 16"):
        backend.load(1, "wide", make_adapter(base, tmp_path / "wide", r=32))
    with pytest.raises(ModelError, match="lm_head"):
        backend.load(1, "head", make_adapter(base, tmp_path / "head", target_modules=["lm_head"]))
    sparse = with_adapters(checkpoint("qwen3_moe"), {}).lora
    assert sparse is not None
    with pytest.raises(ModelError, match=r"targets 'model\.layers\.\d\.mlp\.up_proj'.*no such linear layer.*q_proj"):
        sparse.load(1, "dense", make_adapter(base, tmp_path / "dense", target_modules=["up_proj"]))
    with pytest.raises(ModelError, match="4 may be loaded at once"):
        backend.load(5, "fifth", make_adapter(base, tmp_path / "fifth"))
    other = make_checkpoint(tmp_path / "other", "qwen3", hidden_size=48)
    with pytest.raises(ModelError, match=r"is for another model.* maps 48 to .* 64 to"):
        backend.load(1, "foreign", make_adapter(other, tmp_path / "foreign"))


def test_adapters_of_experts_are_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = checkpoint("qwen3_moe")
    backend = with_adapters(base, {}).lora
    assert backend is not None
    adapter = make_adapter(
        base, tmp_path / "experts", target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj"]
    )
    with pytest.raises(ModelError, match=r"stacked experts \(target_parameters\)"):
        backend.load(1, "experts", adapter)
