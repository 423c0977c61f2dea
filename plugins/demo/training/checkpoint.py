"""The model's configuration, and its weights in the published checkpoint layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

from training.pixels import MAX_CLIP_PIXELS, MAX_PIXELS, MEAN, MERGE, MIN_PIXELS, PATCH, STD
from training.tokenizer import SPECIAL_TOKENS, VOCAB_SIZE

HIDDEN = 256
EXPERT_WIDTH = 96
#: Kept under the repository's limits for one file.
MAX_SHARD_BYTES = 12 * 1024 * 1024
TOKEN_IDS = {token: VOCAB_SIZE - len(SPECIAL_TOKENS) + i for i, (token, _) in enumerate(SPECIAL_TOKENS)}


def model_config() -> dict[str, Any]:
    """config.json, written as published Qwen3-VL-MoE checkpoints write it."""
    # transformers 5 tells [E,H,2I] from [E,2I,H] by shape, so no two of H, I and 2I may be equal.
    assert HIDDEN not in (EXPERT_WIDTH, 2 * EXPERT_WIDTH)
    return {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "dtype": "bfloat16",
        "image_token_id": TOKEN_IDS["<|image_pad|>"],
        "video_token_id": TOKEN_IDS["<|video_pad|>"],
        "vision_start_token_id": TOKEN_IDS["<|vision_start|>"],
        "vision_end_token_id": TOKEN_IDS["<|vision_end|>"],
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen3_vl_moe_text",
            "dtype": "bfloat16",
            "vocab_size": VOCAB_SIZE,
            "hidden_size": HIDDEN,
            "intermediate_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "max_position_embeddings": 4096,
            "initializer_range": 0.02,
            "rms_norm_eps": 1e-06,
            "use_cache": True,
            "tie_word_embeddings": False,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "moe_intermediate_size": EXPERT_WIDTH,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "router_aux_loss_coef": 0.001,
            "rope_theta": 100000.0,
            "rope_scaling": {
                "rope_type": "default",
                "mrope_interleaved": True,
                "mrope_section": [12, 10, 10],
            },
            "bos_token_id": None,
            "eos_token_id": TOKEN_IDS["<|im_end|>"],
            "pad_token_id": TOKEN_IDS["<|endoftext|>"],
        },
        "vision_config": {
            "model_type": "qwen3_vl_moe",
            "depth": 4,
            "hidden_size": 128,
            "hidden_act": "gelu_pytorch_tanh",
            "intermediate_size": 384,
            "num_heads": 4,
            "in_channels": 3,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": HIDDEN,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0, 1, 2],
            "initializer_range": 0.02,
        },
    }


def generation_config() -> dict[str, Any]:
    return {
        "bos_token_id": None,
        "do_sample": False,
        "eos_token_id": [TOKEN_IDS["<|im_end|>"], TOKEN_IDS["<|endoftext|>"]],
        "pad_token_id": TOKEN_IDS["<|endoftext|>"],
    }


def _processor_config(kind: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {
        **kind,
        "processor_class": "Qwen3VLProcessor",
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "size": {"shortest_edge": least, "longest_edge": most},
    }


def image_config() -> dict[str, Any]:
    kind = {"image_processor_type": "Qwen2VLImageProcessorFast"}
    return _processor_config(kind, MIN_PIXELS, MAX_PIXELS)


def video_config() -> dict[str, Any]:
    kind = {
        "video_processor_type": "Qwen3VLVideoProcessor",
        "fps": 2,
        "min_frames": 4,
        "max_frames": 16,
        "do_sample_frames": True,
    }
    return _processor_config(kind, MIN_PIXELS, MAX_CLIP_PIXELS)


def write_configs(directory: Path) -> None:
    files = {
        "config.json": model_config(),
        "generation_config.json": generation_config(),
        "preprocessor_config.json": image_config(),
        "video_preprocessor_config.json": video_config(),
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=2) + "\n")


def new_model() -> Qwen3VLMoeForConditionalGeneration:
    """A freshly initialised model in float32."""
    config: Any = Qwen3VLMoeConfig(**model_config())
    config.dtype = config.text_config.dtype = torch.float32
    model_class: Any = Qwen3VLMoeForConditionalGeneration
    model: Qwen3VLMoeForConditionalGeneration = model_class._from_config(config, dtype=torch.float32)
    return model


def published(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A model's state in the published layout: experts as [E,H,2I] and [E,I,H]."""
    tensors = {}
    for name, tensor in state.items():
        tensor = tensor.detach().to("cpu", dtype)
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensor = tensor.transpose(1, 2)
        tensors[name] = tensor.contiguous()
    return tensors


def unpublished(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of `published`, in float32, for `load_state_dict`."""
    return published(tensors, torch.float32)


def save_weights(state: dict[str, torch.Tensor], directory: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Shards of at most MAX_SHARD_BYTES, with an index."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, tensor in sorted(published(state, dtype).items()):
        if shards[-1] and size + tensor.nbytes > MAX_SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    for old in directory.glob("model*.safetensors*"):
        old.unlink()
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, directory / file, metadata={"format": "pt"})
        (directory / file).chmod(0o644)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def load_weights(model: Qwen3VLMoeForConditionalGeneration, directory: Path) -> None:
    """Load what `save_weights` wrote, whatever its dtype."""
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(directory.glob("model-*.safetensors")):
        tensors |= load_file(file)
    if not tensors:
        raise FileNotFoundError(f"no model-*.safetensors in {directory}")
    model.load_state_dict(unpublished(tensors))
