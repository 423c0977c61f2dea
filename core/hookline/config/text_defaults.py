"""Sizes that a nested text_config may leave out: transformers writes only what differs from its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: ``text_config.model_type`` -> defaults. Source: the fields of ``LlamaConfig`` in transformers 5.23
#: (models/llama/configuration_llama.py); llava-1.5-7b-hf relies on them.
TEXT_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
    },
}


def with_defaults(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """A nested text_config with what its family's defaults say of keys that it lacks."""
    return {**TEXT_DEFAULTS.get(str(text.get("model_type")), {}), **text}
