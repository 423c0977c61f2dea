"""Qwen3-VL-MoE, text half: Qwen3-MoE with three position planes, under the names of the whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hookline_models.qwen3_moe import Qwen3MoeForCausalLM

if TYPE_CHECKING:
    from hookline.config.model_config import ModelConfig

_TEXT_PREFIX = "model.language_model."
#: Transformers saves the tower below ``model``; some checkpoints have it at the top.
_VISION_PREFIXES = ("model.visual.", "visual.")


class Qwen3VLMoeForConditionalGeneration(Qwen3MoeForCausalLM):
    """Answers text; the tensors of the vision tower are passed over."""

    def renormalizes(self, config: ModelConfig) -> bool:
        # The family always does; its configs need not say so.
        return True

    def map_weight(self, name: str) -> str | None:
        if name.startswith(_VISION_PREFIXES):
            return None
        if name.startswith(_TEXT_PREFIX):
            name = f"model.{name.removeprefix(_TEXT_PREFIX)}"
        return super().map_weight(name)
