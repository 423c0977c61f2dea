"""Small checkpoints of the families that hookline-models serves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hookline.testkit.checkpoints import VOCAB_SIZE as VOCAB_SIZE
from hookline.testkit.checkpoints import random_model, write_small_checkpoint

_MOE: Mapping[str, Any] = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 40,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
_MROPE: Mapping[str, Any] = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "mrope_section": [4, 2, 2],
    "mrope_interleaved": True,
}
_VISION: Mapping[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
}

#: Family -> its class in transformers.
ARCHITECTURES: Mapping[str, str] = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}
FAMILIES = tuple(ARCHITECTURES)


def config_of(family: str, **changes: Any) -> dict[str, Any]:
    """What the family's config.json says beyond the small sizes; ``changes`` are for the text model."""
    if family == "qwen3_moe":
        return {**_MOE, **changes}
    if family == "qwen3_vl_moe":
        return {"text_config": {**_MOE, "rope_parameters": _MROPE, **changes}, "vision_config": _vision(changes)}
    if family == "qwen3_vl":
        return {"text_config": {"rope_parameters": _MROPE, **changes}, "vision_config": _vision(changes)}
    return changes


def _vision(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A tower whose rows are as wide as the text model."""
    return {**_VISION, "out_hidden_size": changes.get("hidden_size", _VISION["out_hidden_size"])}


def make_model(family: str, *, seed: int = 0, **changes: Any) -> Any:
    """A random float32 model of transformers."""
    return random_model(ARCHITECTURES[family], config_of(family, **changes), seed=seed)


def make_checkpoint(directory: Path, family: str = "qwen3", *, seed: int = 0, **changes: Any) -> Path:
    """Save a random checkpoint of a family with its tokenizer and chat template; returns the directory."""
    config = config_of(family, **changes)
    return write_small_checkpoint(directory, architecture=ARCHITECTURES[family], hf_config=config, seed=seed)
