"""What a family's config may switch on, each against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hookline.config.model_config import ModelConfig
from tests.factories.checkpoints import make_checkpoint
from tests.models.harness import ModelHarness
from tests.models.test_parity import load_reference, prompts

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied embeddings": ("llama", {"tie_word_embeddings": True}),
    "biases everywhere": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "as many key as query heads": ("qwen3", {"num_key_value_heads": 4}),
    "one key head": ("qwen3", {"num_key_value_heads": 1}),
    "wide heads": ("qwen3", {"head_dim": 32, "attention_bias": True}),
    "llama3 rope": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "yarn rope": (
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 500.0,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "window on some layers": ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "window on all layers": ("qwen3", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}),
    "window of a sparse model": ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 6}),
}


def init_biases(path: Path) -> None:
    """transformers initialises biases with zeros, which would hide that they are left out."""
    file = path / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * 0.3 if name.endswith(".bias") else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})


def assert_parity(path: Path) -> None:
    batch = prompts((33, 7, 20))
    harness = ModelHarness.load(path)
    harness.step({name: ids[:5] for name, ids in batch.items()})
    got = harness.step({name: ids[5:-1] for name, ids in batch.items()}, all_logits=True)
    last = harness.step({name: ids[-1:] for name, ids in batch.items()})
    reference = load_reference(path)
    for name, ids in batch.items():
        expected = reference(ids)
        torch.testing.assert_close(got[name], expected[5:-1], atol=1e-4, rtol=0)
        torch.testing.assert_close(last[name], expected[-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_agrees_with_transformers(name: str, tmp_path: Path) -> None:
    family, changes = VARIANTS[name]
    make_checkpoint(tmp_path, family, **changes)
    init_biases(tmp_path)
    assert any(ModelConfig.load(tmp_path).layer_windows) == ("window" in name)
    assert_parity(tmp_path)


def test_biases_of_qwen2_are_added(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen2")
    init_biases(tmp_path)
    assert_parity(tmp_path)


@pytest.mark.parametrize("norm_topk_prob", [True, False])
def test_dense_layers_among_sparse_ones(norm_topk_prob: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 384,
        "hidden_size": 64,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "num_experts": 5,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 24,
        "norm_topk_prob": norm_topk_prob,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [3],
    }
    config = transformers.Qwen3MoeConfig(**sizes)
    transformers.Qwen3MoeForCausalLM(config).save_pretrained(tmp_path)
    assert_parity(tmp_path)


def test_the_published_expert_layout(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen3_vl_moe")
    expected = load_reference(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    stacked = [name for name in tensors if ".experts." in name]
    assert len(stacked) == 6
    for name in stacked:
        tensors[name] = tensors[name].transpose(1, 2).contiguous()
    save_file(tensors, file, metadata={"format": "pt"})
    (ids,) = prompts([20]).values()
    got = ModelHarness.load(tmp_path).step({"r": ids}, all_logits=True)["r"]
    torch.testing.assert_close(got, expected(ids), atol=1e-4, rtol=0)


def test_position_planes_that_differ(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen3_vl_moe")
    (ids,) = prompts([12]).values()
    # Text, then a picture of 2 x 3 patches, then text: three planes as the family numbers them.
    temporal = [0, 1, 2, *[3] * 6, 6, 7, 8]
    height = [0, 1, 2, 3, 3, 3, 4, 4, 4, 6, 7, 8]
    width = [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8]
    planes = torch.tensor([temporal, height, width])
    model = transformers.Qwen3VLMoeForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.inference_mode():
        hidden = model.model.language_model(
            inputs_embeds=model.get_input_embeddings()(torch.tensor([ids])), position_ids=planes.unsqueeze(1)
        ).last_hidden_state
        expected = model.lm_head(hidden)[0]
        got = ModelHarness.load(tmp_path).step({"r": ids}, all_logits=True, positions=planes)["r"]
        plain = ModelHarness.load(tmp_path).step({"r": ids}, all_logits=True)["r"]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert (got - plain).abs().max() > 0.1


def test_bfloat16_stays_close_to_float32(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen3", initializer_range=0.05)
    (ids,) = prompts([20]).values()
    exact = ModelHarness.load(tmp_path).step({"r": ids}, all_logits=True)["r"]
    rounded = ModelHarness.load(tmp_path, dtype=torch.bfloat16).step({"r": ids}, all_logits=True)["r"]
    cosine = torch.nn.functional.cosine_similarity(exact, rounded, dim=-1)
    assert cosine.min() > 0.999
