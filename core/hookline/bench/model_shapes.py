"""Shapes of published models, for measurements with made-up weights.

Each is the config.json of its model card with what decides about speed; no weights, no tokenizer.
"""

from __future__ import annotations

import json
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
#: Name -> config.json. Sources: the model cards of Qwen/Qwen3-0.6B, Qwen/Qwen3-8B and Qwen/Qwen3-30B-A3B.
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
}


@contextmanager
def with_shape(loaded: LoadedConfig, shape: str | None, *, has_tokenizer: bool = False) -> Iterator[LoadedConfig]:
    """``loaded`` with the model replaced by a shape, while the ``with`` block lasts; unchanged without a shape.

    The weights are made up (``model.load_format`` dummy), and so is the tokenizer, if there is to be one.
    """
    if shape is None:
        yield loaded
        return
    with tempfile.TemporaryDirectory(prefix="hookline-shape-") as parent:
        # The directory's name is what the model is called in reports.
        directory = Path(parent) / shape
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(MODEL_SHAPES[shape]))
        if has_tokenizer:
            save_tokenizer(directory, MODEL_SHAPES[shape]["bos_token_id"])
        values = {"model": str(directory), "load_format": "dummy", "skip_tokenizer_init": not has_tokenizer}
        model = loaded.config.model.model_copy(update=values)
        origin = Origin(kind="flag", text=f"--shape {shape}")
        yield LoadedConfig(
            config=loaded.config.model_copy(update={"model": model}),
            origins={**loaded.origins, **{f"model.{name}": origin for name in values}},
        )
