"""The conformance suite of models, against transformers' Olmo2ForCausalLM on small random checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hookline.testkit.models import ModelSuite


class TestOlmo2(ModelSuite):
    name = "olmo2"
    # What else config.json may say; each is compared too.
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "a key head for each query head": {"num_key_value_heads": 4},
        "biases": {"attention_bias": True},
        "the published rotation": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    }
