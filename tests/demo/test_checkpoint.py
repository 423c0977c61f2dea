"""The checkpoint's files: layout, sizes, and that transformers loads what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText

from hookline_demo.source import ADAPTERS, CHECKPOINT
from training.checkpoint import EXPERT_WIDTH, HIDDEN, model_config, new_model, published, save_weights, unpublished
from training.export import COPIED

MEGABYTE = 1024 * 1024


def shapes(directory: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            found |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    return found


def test_the_checkpoint_is_small() -> None:
    sizes = [file.stat().st_size for file in CHECKPOINT.parent.rglob("*") if file.is_file()]
    assert max(sizes) <= 15 * MEGABYTE
    assert sum(sizes) <= 24 * MEGABYTE


def test_the_index_lists_every_tensor_of_the_shards() -> None:
    index = json.loads((CHECKPOINT / "model.safetensors.index.json").read_text())
    assert sorted(index["weight_map"]) == sorted(shapes(CHECKPOINT))
    for name, file in index["weight_map"].items():
        with safe_open(CHECKPOINT / file, framework="pt") as tensors:
            assert name in tensors.keys()  # noqa: SIM118


def test_experts_are_stored_in_the_published_layout() -> None:
    stored = shapes(CHECKPOINT)
    experts = "model.language_model.layers.0.mlp.experts"
    assert stored[f"{experts}.gate_up_proj"] == [8, HIDDEN, 2 * EXPERT_WIDTH]
    assert stored[f"{experts}.down_proj"] == [8, EXPERT_WIDTH, HIDDEN]
    assert "lm_head.weight" in stored
    assert "model.visual.merger.linear_fc1.weight" in stored


def test_no_expert_shape_is_ambiguous() -> None:
    text = model_config()["text_config"]
    width, hidden = text["moe_intermediate_size"], text["hidden_size"]
    assert hidden not in (width, 2 * width)


def test_the_config_is_the_architecture_that_was_asked_for() -> None:
    config = json.loads((CHECKPOINT / "config.json").read_text())
    text = config["text_config"]
    assert config == model_config()
    assert config["architectures"] == ["Qwen3VLMoeForConditionalGeneration"]
    assert (text["hidden_size"], text["num_hidden_layers"]) == (256, 6)
    assert (text["num_attention_heads"], text["num_key_value_heads"], text["head_dim"]) == (4, 2, 64)
    assert (text["num_experts"], text["num_experts_per_tok"]) == (8, 2)
    assert text["rope_scaling"]["mrope_section"] == [12, 10, 10]
    assert text["max_position_embeddings"] == 4096
    assert len(config["vision_config"]["deepstack_visual_indexes"]) == 3


def test_the_number_of_parameters_is_between_seven_and_ten_million() -> None:
    number = sum(torch.Size(shape).numel() for shape in shapes(CHECKPOINT).values())
    assert 7e6 < number < 10e6


def test_the_published_layout_and_back_is_the_same() -> None:
    state = new_model().state_dict()
    back = unpublished(published(state, torch.float32))
    assert all(torch.equal(state[name], back[name]) for name in state)


def test_transformers_gives_the_logits_of_the_model_that_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = new_model().eval()
    save_weights(model.state_dict(), tmp_path, torch.float32)
    for name in ("config.json", "generation_config.json", *COPIED):
        (tmp_path / name).write_bytes((CHECKPOINT / name).read_bytes())
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.arange(1, 41)[None]
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids).logits, loaded(input_ids=ids).logits)


@pytest.mark.parametrize("directory", sorted(ADAPTERS.glob("*")), ids=lambda path: path.name)
def test_adapters_are_small_and_in_peft_layout(directory: Path) -> None:
    config = json.loads((directory / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert sum(file.stat().st_size for file in directory.iterdir()) <= MEGABYTE
    prefix = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    stored = shapes(directory)
    assert stored[f"{prefix}.lora_A.weight"] == [config["r"], HIDDEN]
    assert stored[f"{prefix}.lora_B.weight"] == [256, config["r"]]


def test_the_adapters_have_different_ranks() -> None:
    ranks = [json.loads(file.read_text())["r"] for file in ADAPTERS.glob("*/adapter_config.json")]
    assert len(ranks) == len(set(ranks)) == 2
