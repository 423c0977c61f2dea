"""Small vision-language checkpoints, prompts with pictures for them, and what transformers makes of the same."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hookline.config.model_config import ModelConfig
from hookline.interfaces.multimodal import (
    VIDEO,
    ClipInfo,
    DecodedImage,
    DecodedVideo,
    EncoderItem,
    ExpandedPrompt,
    MediaParams,
    MultimodalProcessor,
    ProcessedItem,
    ProcessedMedia,
    ProcessorEnv,
)
from hookline.messages.requests import MediaItem, MediaTensor, MultimodalInputs
from hookline.testkit.checkpoints import write_small_checkpoint
from hookline.text.tokenizer import load_tokenizer
from tests.factories.checkpoints import ARCHITECTURES, config_of

DEMO = Path(__file__).parents[2] / "plugins/demo/hookline_demo/checkpoint"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
#: Ids of the demo's tokenizer.
_IDS = {"image_token_id": 4082, "video_token_id": 4083, "vision_start_token_id": 4079, "vision_end_token_id": 4080}
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
CLIP = "<|vision_start|><|video_pad|><|vision_end|>"


def make_vision_checkpoint(directory: Path, family: str = "qwen3_vl_moe", *, seed: int = 0) -> Path:
    """A random Qwen3-VL checkpoint with the demo's tokenizer and processor files."""
    config = config_of(family, vocab_size=4096, eos_token_id=4072, pad_token_id=4070)
    write_small_checkpoint(directory, architecture=ARCHITECTURES[family], hf_config={**_IDS, **config}, seed=seed)
    for name in _TOKENIZER_FILES:
        shutil.copy(DEMO / name, directory / name)
    return directory


def picture(seed: int, height: int = 64, width: int = 96) -> DecodedImage:
    """Coloured blocks and noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    pixels = blocks.repeat(-(-height // 4), axis=0).repeat(-(-width // 4), axis=1)[:height, :width]
    return DecodedImage(pixels=pixels ^ rng.integers(0, 32, pixels.shape, dtype=np.uint8))


def clip(seed: int, frames: int = 5, height: int = 64, width: int = 64) -> DecodedVideo:
    """Pictures in a row, two a second."""
    pixels = np.stack([picture(seed * 100 + index, height, width).pixels for index in range(frames)])
    info = ClipInfo(num_frames=frames, height=height, width=width, fps=2.0, duration=frames / 2)
    return DecodedVideo(frames=pixels, indices=list(range(frames)), info=info)


@dataclass(frozen=True, slots=True)
class VisionPrompt:
    """A prompt with its media, processed."""

    expanded: ExpandedPrompt
    media: list[ProcessedMedia]
    inputs: MultimodalInputs

    @property
    def input_ids(self) -> list[int]:
        return self.expanded.input_ids


class PromptMaker:
    """Makes prompts with a checkpoint's own processor."""

    def __init__(self, path: Path, processor: type[MultimodalProcessor]) -> None:
        tokenizer = load_tokenizer(path)
        self.processor = processor(
            ProcessorEnv(
                model=ModelConfig.load(path), tokenize=lambda text: tokenizer.encode(text, add_special_tokens=False)
            )
        )

    def __call__(self, text: str, *media: DecodedImage | DecodedVideo) -> VisionPrompt:
        processed = [self.processor.process(medium, MediaParams()) for medium in media]
        expanded = self.processor.expand(text, processed)
        items = [(entry.kind, item) for entry in processed for item in entry.items]
        inputs = MultimodalInputs(
            items=[media_item(kind, item, spans) for (kind, item), spans in zip(items, expanded.spans, strict=True)],
            positions=b"" if expanded.positions is None else expanded.positions.tobytes(),
            position_delta=expanded.position_delta,
        )
        return VisionPrompt(expanded, processed, inputs)


def media_item(kind: str, item: ProcessedItem | EncoderItem, spans: list[tuple[int, int]]) -> MediaItem:
    """An item as a request carries it within one process; its digest is that of its arrays."""
    content = b"".join(array.tobytes() for array in item.tensors.values())
    return MediaItem(
        kind=kind,
        digest=hashlib.sha256(repr(item.grid).encode() + content).digest(),
        spans=spans,
        grid=item.grid,
        num_rows=item.num_rows,
        cost=item.cost,
        tensors=[
            MediaTensor(name=name, dtype=str(array.dtype), shape=array.shape, data=array)
            for name, array in item.tensors.items()
        ],
    )


def qwen_inputs(prompt: VisionPrompt, output: Sequence[int] = ()) -> dict[str, Any]:
    """What transformers' Qwen3-VL models take for the same prompt, and tokens after it."""
    ids = torch.tensor([[*prompt.input_ids, *output]])
    kinds = (ids == _IDS["image_token_id"]).int() + 2 * (ids == _IDS["video_token_id"]).int()
    found: dict[str, Any] = {"input_ids": ids, "mm_token_type_ids": kinds}
    for video, pixels, grids in (
        (False, "pixel_values", "image_grid_thw"),
        (True, "pixel_values_videos", "video_grid_thw"),
    ):
        chosen = [entry for entry in prompt.media if (entry.kind == VIDEO) is video]
        if chosen:
            found[pixels] = torch.from_numpy(np.concatenate([_values(item) for m in chosen for item in m.items]))
            frames = [sum(item.grid[0] for item in entry.items) for entry in chosen]
            first = [entry.items[0].grid for entry in chosen]
            found[grids] = torch.tensor([(t, g[1], g[2]) for t, g in zip(frames, first, strict=True)])
    return found


def _values(item: ProcessedItem) -> NDArray[np.float32]:
    """Normalised pixels [n, 3 * 2 * 16 * 16]; a picture's patches twice."""
    patches = item.tensors["patches"].astype(np.float32).reshape(len(item.tensors["patches"]), 3, -1, 256)
    scaled = (patches.repeat(2 // patches.shape[2], axis=2) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return np.asarray(scaled.reshape(len(patches), -1), dtype=np.float32)
