"""The shipped models pass the suite that plugin authors use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from hookline.testkit.media_prompts import MediaPrompt
from hookline.testkit.models import ModelSuite
from tests.factories.checkpoints import config_of
from tests.factories.llava import LLAVA_UNUSED, llava_config, llava_logits, llava_prompt
from tests.factories.media_prompts import QWEN3_VL_IDS, qwen3_vl_logits, qwen3_vl_prompt


class TestLlama(ModelSuite):
    name = "llama"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "biases everywhere": {"attention_bias": True, "mlp_bias": True},
        "llama3 rope": {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    }


class TestQwen2(ModelSuite):
    name = "qwen2"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "window on some layers": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
        "yarn rope": {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 500.0,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    }


class TestQwen3(ModelSuite):
    name = "qwen3"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "as many key as query heads": {"num_key_value_heads": 4},
        "one key head": {"num_key_value_heads": 1},
        "wide heads": {"head_dim": 32, "attention_bias": True},
        "window on all layers": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0},
    }


class TestQwen3Moe(ModelSuite):
    name = "qwen3_moe"
    hf_config: ClassVar[Mapping[str, Any]] = config_of("qwen3_moe")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "window": {"use_sliding_window": True, "sliding_window": 6},
        "dense layers among sparse ones": {"decoder_sparse_step": 2, "mlp_only_layers": [1], "num_hidden_layers": 4},
        "weights of experts as they are": {"norm_topk_prob": False, "num_experts_per_tok": 3},
    }


class TestQwen3VLMoe(ModelSuite):
    name = "qwen3_vl_moe"
    hf_config: ClassVar[Mapping[str, Any]] = {**QWEN3_VL_IDS, **config_of("qwen3_vl_moe")}

    @classmethod
    def media_prompt(cls, directory: Path) -> MediaPrompt:
        return qwen3_vl_prompt()

    @classmethod
    def reference_media_logits(cls, directory: Path, prompt: MediaPrompt) -> torch.Tensor:
        return qwen3_vl_logits(directory, prompt)


class TestQwen3VL(TestQwen3VLMoe):
    name = "qwen3_vl"
    hf_config: ClassVar[Mapping[str, Any]] = {**QWEN3_VL_IDS, **config_of("qwen3_vl")}


class TestLlava(ModelSuite):
    """CLIP before Llama."""

    name = "llava"
    hf_config: ClassVar[Mapping[str, Any]] = llava_config("clip")
    unused_tensors = LLAVA_UNUSED
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "SigLIP before Qwen2": llava_config("siglip"),
        "states of several layers": {**llava_config("clip"), "vision_feature_layer": [1, -2, 3]},
    }

    @classmethod
    def media_prompt(cls, directory: Path) -> MediaPrompt:
        return llava_prompt(directory)

    @classmethod
    def reference_media_logits(cls, directory: Path, prompt: MediaPrompt) -> torch.Tensor:
        return llava_logits(directory, prompt)
