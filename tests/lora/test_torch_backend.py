"""The torch LoRA backend against weights that peft has merged, alone and mixed in one batch."""

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


@pytest.mark.parametrize("deterministic", [False, True])
def test_several_adapters_and_the_base_model_share_every_pass(
    deterministic: bool, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    base = checkpoint("qwen3")
    adapters = {
        "wide": make_adapter(base, tmp_path / "wide", seed=1, r=8, target_modules=ALL),
        "narrow": make_adapter(base, tmp_path / "narrow", seed=2, r=2, target_modules=["q_proj", "down_proj"]),
    }
    harness = with_adapters(base, adapters, deterministic=deterministic)
    harness.adapters = {"r0": 1, "r2": 2, "r3": 1}
    models = {"r0": "wide", "r1": None, "r2": "narrow", "r3": "wide"}
    prompts = {
        name: ids_of(length, seed) for seed, (name, length) in enumerate(zip(models, (9, 4, 17, 1), strict=True))
    }
    output = harness.greedy(prompts, 16)
    for name, adapter in models.items():
        logits = reference(base, None if adapter is None else adapters[adapter])
        ids = prompts[name]
        expected = logits(ids + output[name])[len(ids) - 1 : -1].argmax(-1).tolist()
        assert output[name] == expected


def test_a_pass_of_one_adapter_alone(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = checkpoint("qwen3")
    adapter = make_adapter(base, tmp_path / "a", target_modules=ALL)
    harness = with_adapters(base, {"other": make_adapter(base, tmp_path / "b", seed=3), "a": adapter})
    harness.adapters = {"x": 2, "y": 2}
    batch = {"x": ids_of(6), "y": ids_of(11, 1)}
    got = harness.step(batch, all_logits=True)
    for name, ids in batch.items():
        assert_close(got[name], reference(base, adapter)(ids))


def test_a_slot_that_is_loaded_again_keeps_nothing_of_its_last_tenant(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    base = checkpoint("qwen3")
    first = make_adapter(base, tmp_path / "first", seed=1, r=8, target_modules=ALL)
    second = make_adapter(base, tmp_path / "second", seed=2, r=2, target_modules=["o_proj"])
    harness = with_adapters(base, {"first": first})
    assert harness.lora is not None
    harness.lora.load(1, "second", second)
    harness.adapters = {"x": 1, "y": 1}
    ids = ids_of(8)
    assert_close(harness.step({"x": ids}, all_logits=True)["x"], reference(base, second)(ids))
    harness.lora.unload(1)
    assert_close(harness.step({"y": ids}, all_logits=True)["y"], reference(base, None)(ids))


def test_a_failed_load_leaves_the_slot_as_it_was(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = checkpoint("qwen3")
    good = make_adapter(base, tmp_path / "good", target_modules=ALL)
    harness = with_adapters(base, {"good": good})
    assert harness.lora is not None
    with pytest.raises(ModelError):
        harness.lora.load(1, "wide", make_adapter(base, tmp_path / "wide", r=32))
    harness.adapters = {"x": 1}
    ids = ids_of(8)
    assert_close(harness.step({"x": ids}, all_logits=True)["x"], reference(base, good)(ids))


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


def test_a_layer_without_a_delta_is_untouched(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = checkpoint("qwen3")
    harness = with_adapters(base, {"a": make_adapter(base, tmp_path / "a", target_modules=["o_proj"])})
    layer = harness.model.linears["model.layers.0.mlp.down_proj"]
    x = torch.randn(3, 96)
    plan = harness.lora.plan([1], _one_request(3)) if harness.lora is not None else None
    assert torch.equal(layer.forward(x, plan), layer.forward(x, None))


def _one_request(length: int) -> Any:
    class Geometry:
        extend_lens_cpu = (length,)

    return Geometry()
