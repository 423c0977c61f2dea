"""LlavaForConditionalGeneration: a decoder of another family, and a tower that makes rows for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from hookline.errors import ModelError
from hookline.interfaces.multimodal import IMAGE, EncoderItem
from hookline.layers.model import Model
from hookline_models.decoder import DecoderModel
from hookline_models.llama import LlamaForCausalLM
from hookline_models.llava.config import LlavaConfig
from hookline_models.llava.pixels import PixelSettings
from hookline_models.llava.vision import LlavaTower
from hookline_models.qwen2 import Qwen2ForCausalLM

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.batch.forward_batch import ForwardBatch
    from hookline.config.model_config import ModelConfig
    from hookline.interfaces.multimodal import EncoderInput
    from hookline.layers.build import BuildContext

#: ``text_config.model_type`` -> decoder.
_DECODERS: Mapping[str, type[DecoderModel]] = {"llama": LlamaForCausalLM, "qwen2": Qwen2ForCausalLM}
#: Beginnings of names in checkpoints -> in the model; the first that fits.
_NAMES = (
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model."),
    ("vision_tower.vision_model.", "vision_tower."),
    ("model.vision_tower.vision_model.", "vision_tower."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
_LAYERS = "vision_tower.encoder.layers."
#: What makes one vector of a picture, which nothing here needs.
_POOLING = ("vision_tower.post_layernorm.", "vision_tower.head.", "vision_tower.embeddings.position_ids")


class LlavaForConditionalGeneration(Model):
    """LLaVA as transformers has it."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(config, ctx)
        self._llava = LlavaConfig.of(config)
        kind = config.text.get("model_type", "llama")
        if kind not in _DECODERS:
            raise ModelError(
                f"{config.path / 'config.json'}: LLaVA with a language model of type '{kind}' is not supported "
                f"(supported: {', '.join(_DECODERS)})"
            )
        self.decoder = _DECODERS[kind](config, ctx)
        self.tower = LlavaTower(self._llava, ctx, config.hidden_size, PixelSettings.read(config.path))

    @property
    def encoder_row_size(self) -> int:
        return self.config.hidden_size

    def encode(self, items: Sequence[EncoderInput]) -> list[Tensor]:
        side = self._llava.image_size
        for item in items:
            shape = tuple(item.tensors["pixels"].shape) if "pixels" in item.tensors else None
            if shape != (3, side, side):
                raise ModelError(f"an item for LLaVA has 'pixels' of shape {(3, side, side)}, not {shape}")
        return list(self.tower.forward(torch.stack([item.tensors["pixels"] for item in items])))

    def example_item(self, cost: int) -> EncoderItem | None:
        llava = self._llava
        return EncoderItem(
            kind=IMAGE,
            digest=bytes(32),
            tensors={"pixels": np.zeros((3, llava.image_size, llava.image_size), dtype=np.uint8)},
            grid=(llava.grid_side, llava.grid_side),
            num_rows=llava.num_rows,
            cost=llava.grid_side**2,
        )

    def forward(self, batch: ForwardBatch) -> Tensor:
        return self.decoder.forward(batch)

    def compute_logits(self, hidden_SH: Tensor) -> Tensor:
        return self.decoder.compute_logits(hidden_SH)

    def map_weight(self, name: str) -> str | None:
        for start, ours in _NAMES:
            if name.startswith(start):
                name = ours + name.removeprefix(start)
                break
        if name.startswith(_POOLING):
            return None
        if name.startswith(_LAYERS):
            # Layers behind the last one whose state is used were not built.
            number = int(name.removeprefix(_LAYERS).partition(".")[0])
            return name if number < max(self._llava.feature_layers) else None
        return self.decoder.map_weight(name)
