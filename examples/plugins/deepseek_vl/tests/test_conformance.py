"""The conformance suite of models, with pictures, against transformers' DeepseekVLForConditionalGeneration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import DeepseekVLImageProcessorPil

from hookline.config.model_config import ModelConfig
from hookline.errors import RequestError
from hookline.interfaces.multimodal import DecodedImage, MediaParams, ProcessorEnv
from hookline.testkit.media_prompts import MediaPrompt
from hookline.testkit.models import ModelSuite
from hookline_deepseek_vl.processor import CLIP_MEAN, PLACEHOLDER, DeepseekVLProcessor
from hookline_deepseek_vl.tower import CLIP_STD

IMAGE = 380
MEAN, STD = (np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))


def processor_of(directory: Path) -> DeepseekVLProcessor:
    def tokenize(text: str) -> list[int]:
        pieces = text.split(PLACEHOLDER)
        return [token for i, piece in enumerate(pieces) for token in ([IMAGE] if i else []) + list(piece.encode())]

    return DeepseekVLProcessor(ProcessorEnv(model=ModelConfig.load(directory), tokenize=tokenize))


def picture(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestDeepseekVL(ModelSuite):
    name = "deepseek_vl"
    hf_config: ClassVar[Mapping[str, Any]] = {
        "image_token_id": IMAGE,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
        },
    }

    @classmethod
    def media_prompt(cls, directory: Path) -> MediaPrompt:
        processor = processor_of(directory)
        pictures = [DecodedImage(pixels=picture(40, 30)), DecodedImage(pixels=picture(9, 60))]
        media = [processor.process(one, MediaParams()) for one in pictures]
        expanded = processor.expand(f"look {PLACEHOLDER} and {PLACEHOLDER}!", media)
        return MediaPrompt(expanded, [(one.kind, item) for one in media for item in one.items])

    @classmethod
    @torch.inference_mode()
    def reference_media_logits(cls, directory: Path, prompt: MediaPrompt) -> torch.Tensor:
        model: Any = transformers.AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
        pixels = np.stack([item.tensors["pixels"] for _, item in prompt.items]).astype(np.float32)
        values = torch.from_numpy((pixels / 255 - MEAN) / STD)
        logits: torch.Tensor = model(input_ids=torch.tensor([prompt.input_ids]), pixel_values=values).logits[0]
        return logits

    @pytest.mark.parametrize("size", [(32, 32), (40, 90), (7, 5), (200, 33), (1, 1), (2, 300)])
    def test_pixels_are_those_of_transformers(self, size: tuple[int, int], checkpoint: Path) -> None:
        reference = DeepseekVLImageProcessorPil(size={"height": 32, "width": 32})
        wanted = reference(Image.fromarray(picture(*size)), return_tensors="np")["pixel_values"][0]
        (item,) = processor_of(checkpoint).process(DecodedImage(pixels=picture(*size)), MediaParams()).items
        found = (item.tensors["pixels"].astype(np.float32) / 255 - MEAN) / STD
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    @pytest.mark.parametrize("prompt", ["none", f"{PLACEHOLDER}{PLACEHOLDER}", [1, 2, 3]])
    def test_a_picture_needs_its_placeholder(self, prompt: Any, checkpoint: Path) -> None:
        processor = processor_of(checkpoint)
        media = [processor.process(DecodedImage(pixels=picture(8, 8)), MediaParams())]
        with pytest.raises(RequestError, match="for 1 pictures"):
            processor.expand(prompt, media)
