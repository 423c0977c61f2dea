"""Small LLaVA checkpoints, prompts with pictures for them, and what transformers makes of the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from hookline.config.model_config import ModelConfig
from hookline.interfaces.multimodal import IMAGE, ExpandedPrompt, ProcessedItem
from hookline.testkit.media_prompts import MediaPrompt
from hookline_models.llava.config import LlavaConfig
from hookline_models.llava.pixels import PixelSettings

IMAGE_ID = 380
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
#: Tensors that no row depends on.
LLAVA_UNUSED = ("vision_tower.post_layernorm.*", "vision_tower.head.*", "vision_tower.encoder.layers.2.*")


def llava_config(tower: str) -> dict[str, Any]:
    """Values of config.json: CLIP before Llama, or SigLIP before Qwen2."""
    if tower == "clip":
        vision = {**_SIZES, "model_type": "clip_vision_model", "projection_dim": 16}
        return {"image_token_index": IMAGE_ID, "vision_config": vision, "text_config": {"model_type": "llama"}}
    return {
        "image_token_index": IMAGE_ID,
        "vision_config": {**_SIZES, "model_type": "siglip_vision_model"},
        "text_config": {"model_type": "qwen2"},
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
    }


def llava_prompt(directory: Path) -> MediaPrompt:
    """Two pictures with text around them."""
    config = LlavaConfig.of(ModelConfig.load(directory))
    rng = np.random.default_rng(3)
    ids, items, spans = [7, 8, 9], [], []
    for _ in range(2):
        pixels = rng.integers(0, 256, (3, config.image_size, config.image_size), dtype=np.uint8)
        grid = (config.grid_side, config.grid_side)
        item = ProcessedItem(tensors={"pixels": pixels}, grid=grid, num_rows=config.num_rows, cost=grid[0] ** 2)
        items.append((IMAGE, item))
        spans.append([(len(ids), config.num_rows)])
        ids += [IMAGE_ID] * config.num_rows + [20, 21]
    return MediaPrompt(ExpandedPrompt(input_ids=ids, spans=spans), items)


@torch.inference_mode()
def llava_logits(directory: Path, prompt: MediaPrompt, output: Sequence[int] = ()) -> torch.Tensor:
    """What transformers makes of it."""
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    settings = PixelSettings.read(directory)
    pixels = torch.from_numpy(np.stack([item.tensors["pixels"] for _, item in prompt.items])).float()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.mean, settings.std))
    answer = model(
        input_ids=torch.tensor([[*prompt.input_ids, *output]]),
        pixel_values=(pixels * settings.rescale_factor - mean) / std,
    )
    logits: torch.Tensor = answer.logits[0].float()
    return logits
