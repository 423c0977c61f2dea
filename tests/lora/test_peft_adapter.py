"""Nothing in an adapter is ignored: what cannot be applied as it was trained is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hookline.errors import ModelError
from hookline_lora.peft_adapter import read_adapter

CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}
NAME = "base_model.model.model.layers.0.self_attn.q_proj"


def write(
    directory: Path, config: dict[str, Any] | None = None, tensors: dict[str, torch.Tensor] | None = None
) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    if tensors is None:
        tensors = {f"{NAME}.lora_A.weight": torch.ones(2, 8), f"{NAME}.lora_B.weight": torch.ones(6, 2)}
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory


def test_a_plain_adapter(tmp_path: Path) -> None:
    (delta,) = read_adapter(write(tmp_path))
    assert delta.module == "model.layers.0.self_attn.q_proj"
    assert (delta.rank, delta.scaling) == (2, 2.0)
    assert (delta.a.shape, delta.b.shape) == ((2, 8), (6, 2))


def test_scaling_follows_rslora_and_patterns(tmp_path: Path) -> None:
    (delta,) = read_adapter(write(tmp_path, {"use_rslora": True}))
    assert delta.scaling == pytest.approx(4 / 2**0.5)
    (delta,) = read_adapter(write(tmp_path, {"alpha_pattern": {"k_proj": 9, r"layers\.0\.self_attn\.q_proj": 10}}))
    assert delta.scaling == 5.0
    # A pattern matches whole components only.
    (delta,) = read_adapter(write(tmp_path, {"alpha_pattern": {"proj": 10}}))
    assert delta.scaling == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "of peft type 'IA3'; only LORA"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "trained biases"),
        ({"lora_bias": True}, "a bias on lora_B"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"use_qalora": True}, "QALoRA"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"init_lora_weights": "loftq"}, "changes the base weights"),
        ({"lora_alpha": None}, "lora_alpha must be a number"),
    ],
)
def test_what_is_not_supported_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        read_adapter(write(tmp_path, changes))


def test_all_refusals_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"DoRA; .*modules_to_save.*; trained biases"):
        read_adapter(write(tmp_path, {"use_dora": True, "modules_to_save": ["x"], "bias": "lora_only"}))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{NAME}.lora_A.weight": torch.ones(2, 8)}, "has lora_A but not the other"),
        ({f"{NAME}.lora_A.weight": torch.ones(2, 8), f"{NAME}.lora_B.weight": torch.ones(6, 3)}, "do not fit together"),
        ({f"{NAME}.lora_magnitude_vector": torch.ones(6)}, "not plain LoRA matrices: .*magnitude"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 8)}, "not plain LoRA matrices"),
        ({}, "has no weights"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors: dict[str, torch.Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        read_adapter(write(tmp_path, tensors=tensors))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        read_adapter(tmp_path)
    write(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(b"junk")
    with pytest.raises(ModelError, match="not a valid safetensors file"):
        read_adapter(tmp_path)
    weights.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match="save it as safetensors"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*adapter_config\.json"):
        read_adapter(tmp_path)
