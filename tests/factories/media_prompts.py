"""Prompts with media for small checkpoints whose vocabulary has no placeholders of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from hookline.interfaces.multimodal import ExpandedPrompt, ProcessedItem
from hookline.testkit.media_prompts import MediaPrompt
from hookline_models.qwen3_vl.positions import GridRun, mrope_positions

#: Ids within the small vocabulary.
QWEN3_VL_IDS = {"image_token_id": 380, "video_token_id": 381, "vision_start_token_id": 378, "vision_end_token_id": 379}
_GRIDS = ((1, 4, 6), (1, 8, 4))


def qwen3_vl_prompt() -> MediaPrompt:
    """Two pictures with text around them."""
    rng = np.random.default_rng(5)
    ids = [7, 8, 9]
    items, spans, runs = [], [], []
    for grid in _GRIDS:
        count = grid[1] * grid[2]
        patches = rng.integers(0, 256, (count, 768), dtype=np.uint8)
        items.append(("image", ProcessedItem(tensors={"patches": patches}, grid=grid, num_rows=count // 4, cost=count)))
        spans.append([(len(ids), count // 4)])
        runs.append(GridRun(start=len(ids), rows=grid[1] // 2, cols=grid[2] // 2))
        ids += [QWEN3_VL_IDS["image_token_id"]] * (count // 4) + [20, 21]
    positions, delta = mrope_positions(len(ids), runs)
    return MediaPrompt(ExpandedPrompt(input_ids=ids, spans=spans, positions=positions, position_delta=delta), items)


@torch.inference_mode()
def qwen3_vl_logits(directory: Path, prompt: MediaPrompt) -> torch.Tensor:
    """What transformers makes of it."""
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    ids = torch.tensor([prompt.input_ids])
    pixels = np.concatenate([item.tensors["patches"] for _, item in prompt.items]).astype(np.float32)
    twice = np.repeat(pixels.reshape(len(pixels), 3, 1, 256), 2, axis=2).reshape(len(pixels), -1)
    answer = model(
        input_ids=ids,
        mm_token_type_ids=(ids == QWEN3_VL_IDS["image_token_id"]).int(),
        pixel_values=torch.from_numpy((twice / 255 - 0.5) / 0.5),
        image_grid_thw=torch.tensor([item.grid for _, item in prompt.items]),
    )
    logits: torch.Tensor = answer.logits[0].float()
    return logits
