"""Qwen3-VL, dense and mixture of experts: a Qwen3 decoder with three position planes, and the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hookline_models.qwen3 import Qwen3ForCausalLM
from hookline_models.qwen3_moe import Qwen3MoeForCausalLM
from hookline_models.qwen3_vl.config import VisionConfig
from hookline_models.qwen3_vl.names import TOWER, model_name
from hookline_models.qwen3_vl.settings import read_settings
from hookline_models.qwen3_vl.vision import VisionTower

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.config.model_config import ModelConfig
    from hookline.interfaces.multimodal import EncoderInput, EncoderItem
    from hookline.layers.build import BuildContext


class Qwen3VLForConditionalGeneration(Qwen3ForCausalLM):
    """The dense models."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(config, ctx)
        self.visual = build_tower(config, ctx)

    @property
    def encoder_row_size(self) -> int:
        return self.visual.row_size

    def encode(self, items: Sequence[EncoderInput]) -> list[Tensor]:
        return self.visual.encode(items)

    def example_item(self, cost: int) -> EncoderItem | None:
        return self.visual.example_item(cost)

    def map_weight(self, name: str) -> str | None:
        return super().map_weight(model_name(name))


class Qwen3VLMoeForConditionalGeneration(Qwen3MoeForCausalLM):
    """The models with experts."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(config, ctx)
        self.visual = build_tower(config, ctx)

    @property
    def encoder_row_size(self) -> int:
        return self.visual.row_size

    def encode(self, items: Sequence[EncoderInput]) -> list[Tensor]:
        return self.visual.encode(items)

    def example_item(self, cost: int) -> EncoderItem | None:
        return self.visual.example_item(cost)

    def renormalizes(self, config: ModelConfig) -> bool:
        # The family always does; its configs need not say so.
        return True

    def map_weight(self, name: str) -> str | None:
        return super().map_weight(model_name(name))


def build_tower(config: ModelConfig, ctx: BuildContext) -> VisionTower:
    """The tower that config.json and the processor's files describe."""
    image, _ = read_settings(config.path)
    return VisionTower(VisionConfig.of(config), ctx, TOWER, image.patches)
