"""LLaVA with every tower and choice of states against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hookline.config.model_config import ModelConfig
from hookline.errors import ModelError
from hookline.layers.build import BuildContext
from hookline.layers.ops import Ops
from hookline.testkit.checkpoints import write_small_checkpoint
from hookline.testkit.media_prompts import prompt_logits
from hookline.testkit.model_harness import ModelHarness
from hookline_models.llava.model import LlavaForConditionalGeneration
from tests.factories.llava import llava_config, llava_logits, llava_prompt

ARCHITECTURE = "LlavaForConditionalGeneration"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("clip", {}),
    "clip, all states": ("clip", {"vision_feature_select_strategy": "full"}),
    "clip, several layers": ("clip", {"vision_feature_layer": [1, -2, 3]}),
    "clip, an early layer": ("clip", {"vision_feature_layer": 1}),
    "siglip": ("siglip", {}),
    "siglip, the last layer": ("siglip", {"vision_feature_layer": -1}),
    "no biases in the projector": ("clip", {"multimodal_projector_bias": False}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_transformers(variant: str, tmp_path: Path) -> None:
    tower, changes = VARIANTS[variant]
    write_small_checkpoint(tmp_path, architecture=ARCHITECTURE, hf_config={**llava_config(tower), **changes})
    prompt = llava_prompt(tmp_path)
    found = prompt_logits(ModelHarness.load(tmp_path), prompt, [5])
    torch.testing.assert_close(found, llava_logits(tmp_path, prompt), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_layer": -5}, r"the tower has states -4 to 3"),
        ({"vision_feature_select_strategy": "cls"}, "'default' and 'full' are known"),
        ({"vision_config": {"model_type": "pixtral"}}, "a tower of type 'pixtral' is not supported"),
        ({"text_model": "gemma"}, "a language model of type 'gemma' is not supported"),
    ],
)
def test_what_is_not_supported_is_said(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path, architecture=ARCHITECTURE, hf_config=llava_config("clip"))
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    if "text_model" in changes:
        values["text_config"]["model_type"] = changes.pop("text_model")
    file.write_text(json.dumps({**values, **changes}))
    ctx = BuildContext(device=torch.device("meta"), dtype=torch.float32, ops=Ops(), max_positions=16)
    with pytest.raises(ModelError, match=message):
        LlavaForConditionalGeneration(ModelConfig.load(tmp_path), ctx)


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("language_model.model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("model.language_model.norm.weight", "model.norm.weight"),
        ("vision_tower.vision_model.pre_layrnorm.weight", "vision_tower.pre_layrnorm.weight"),
        ("model.multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
        (
            "vision_tower.vision_model.encoder.layers.1.layer_norm1.bias",
            "vision_tower.encoder.layers.1.layer_norm1.bias",
        ),
        ("vision_tower.vision_model.encoder.layers.2.layer_norm1.bias", None),
        ("vision_tower.vision_model.post_layernorm.weight", None),
    ],
)
def test_names_of_all_releases_are_known(published: str, ours: str | None, tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path, architecture=ARCHITECTURE, hf_config=llava_config("clip"))
    ctx = BuildContext(device=torch.device("meta"), dtype=torch.float32, ops=Ops(), max_positions=16)
    model = LlavaForConditionalGeneration(ModelConfig.load(tmp_path), ctx)
    assert model.map_weight(published) == ours
