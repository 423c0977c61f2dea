"""Shapes of published models, for measurements with made-up weights.

Each is the config.json of its model card with what decides about speed; no weights, no tokenizer.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hookline.bench.big_vocabulary import save_tokenizer
from hookline.config.sources import LoadedConfig, Origin

_QWEN3: Mapping[str, Any] = {
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 151643,
    "eos_token_id": 151645,
}
#: Name -> config.json. Sources: the model cards of Qwen/Qwen3-0.6B, Qwen/Qwen3-8B, Qwen/Qwen3-30B-A3B and
#: Qwen/Qwen3-VL-30B-A3B-Instruct.
MODEL_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "qwen3-0.6b": {
        **_QWEN3,
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "qwen3-8b": {
        **_QWEN3,
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "qwen3-30b-a3b": {
        **_QWEN3,
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "tie_word_embeddings": False,
    },
    "qwen3-vl-30b-a3b": {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "tie_word_embeddings": False,
        "text_config": {
            **_QWEN3,
            "model_type": "qwen3_vl_moe_text",
            "max_position_embeddings": 262144,
            "rope_theta": 5000000,
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
        "vision_config": {
            "model_type": "qwen3_vl_moe",
            "depth": 27,
            "hidden_size": 1152,
            "hidden_act": "gelu_pytorch_tanh",
            "intermediate_size": 4304,
            "num_heads": 16,
            "in_channels": 3,
            "out_hidden_size": 2048,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    },
}


@contextmanager
def with_shape(loaded: LoadedConfig, shape: str | None, *, has_tokenizer: bool = False) -> Iterator[LoadedConfig]:
    """``loaded`` with the model replaced by a shape, while the ``with`` block lasts; unchanged without a shape.

    The weights are made up (``model.load_format`` dummy), and so is the tokenizer, if there is to be one.
    """
    if shape is None:
        yield loaded
        return
    with _made_up(loaded, shape, MODEL_SHAPES[shape], f"--shape {shape}", has_tokenizer=has_tokenizer) as shaped:
        yield shaped


@contextmanager
def with_layers(loaded: LoadedConfig, source: Path, num_layers: int) -> Iterator[LoadedConfig]:
    """``loaded`` with the model of directory ``source``, its text half cut to ``num_layers``, while the ``with`` block
    lasts. The weights are made up, and there is no tokenizer."""
    config = json.loads((source / "config.json").read_text())
    config.get("text_config", config)["num_hidden_layers"] = num_layers
    with _made_up(loaded, source.name, config, f"--layers {num_layers}", has_tokenizer=False) as cut:
        for file in source.glob("*processor_config.json"):
            shutil.copy(file, str(cut.config.model.model))
        yield cut


@contextmanager
def _made_up(
    loaded: LoadedConfig, name: str, config: Mapping[str, Any], origin: str, *, has_tokenizer: bool
) -> Iterator[LoadedConfig]:
    with tempfile.TemporaryDirectory(prefix="hookline-shape-") as parent:
        # The directory's name is what the model is called in reports.
        directory = Path(parent) / name
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(config))
        if has_tokenizer:
            save_tokenizer(directory, config.get("text_config", config)["bos_token_id"])
        values = {"model": str(directory), "load_format": "dummy", "skip_tokenizer_init": not has_tokenizer}
        model = loaded.config.model.model_copy(update=values)
        yield LoadedConfig(
            config=loaded.config.model_copy(update={"model": model}),
            origins={
                **loaded.origins,
                **{f"model.{key}": Origin(kind="flag", text=origin) for key in values},
            },
        )
