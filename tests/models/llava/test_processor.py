"""LlavaProcessor: pictures and prompts as transformers' processors make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from hookline.config.model_config import ModelConfig
from hookline.errors import ModelError, RequestError
from hookline.interfaces.multimodal import DecodedImage, MediaParams, ProcessorEnv
from hookline.testkit.checkpoints import write_small_checkpoint
from hookline_models.llava.pixels import PixelSettings
from hookline_models.llava.processor import LlavaProcessor
from tests.factories.llava import IMAGE_ID, llava_config

SIDE = 32
SIZES = [(32, 32), (40, 90), (100, 33), (7, 5), (33, 200), (64, 31), (1, 1)]
PROCESSORS: dict[str, Any] = {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
    "clip, a larger crop": CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 35, "width": 28}),
    "siglip": SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}),
}


def picture(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_transformers(size: tuple[int, int], name: str, tmp_path: Path) -> None:
    PROCESSORS[name].save_pretrained(tmp_path)
    settings = PixelSettings.read(tmp_path)
    pixels = settings.apply(picture(*size)).astype(np.float32)
    mean, std = (np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (settings.mean, settings.std))
    found = (pixels * np.float32(settings.rescale_factor) - mean) / std
    wanted = np.asarray(PROCESSORS[name](Image.fromarray(picture(*size)), return_tensors="np")["pixel_values"][0])
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.fixture
def processor(tmp_path: Path) -> LlavaProcessor:
    write_small_checkpoint(tmp_path, architecture="LlavaForConditionalGeneration", hf_config=llava_config("clip"))
    PROCESSORS["clip"].save_pretrained(tmp_path)
    return make(tmp_path)


def make(path: Path) -> LlavaProcessor:
    def tokenize(text: str) -> list[int]:
        return [
            IMAGE_ID if piece == "<image>" else ord(piece)
            for piece in text.replace("<image>", "\0")
            for piece in (["<image>"] if piece == "\0" else [piece])
        ]

    return LlavaProcessor(ProcessorEnv(model=ModelConfig.load(path), tokenize=tokenize))


def test_each_placeholder_stands_for_all_rows_of_its_picture(processor: LlavaProcessor) -> None:
    media = [processor.process(DecodedImage(pixels=picture(40, 50)), MediaParams()) for _ in range(2)]
    assert [item.num_rows for one in media for item in one.items] == [16, 16]
    text = processor.expand("ab<image>c<image>", media)
    assert text.input_ids == [97, 98, *[IMAGE_ID] * 16, 99, *[IMAGE_ID] * 16]
    assert text.spans == [[(2, 16)], [(19, 16)]]
    assert text.positions is None
    assert processor.expand([97, 98, IMAGE_ID, 99, IMAGE_ID], media) == text


@pytest.mark.parametrize("prompt", ["no picture", "<image><image>", [1, 2], [IMAGE_ID, IMAGE_ID]])
def test_a_picture_too_many_or_too_few_is_refused(prompt: Any, processor: LlavaProcessor) -> None:
    media = [processor.process(DecodedImage(pixels=picture(9, 9)), MediaParams())]
    with pytest.raises(RequestError, match="where 1 are needed"):
        processor.expand(prompt, media)


def test_what_decides_the_pixels_is_in_the_key(processor: LlavaProcessor, tmp_path: Path) -> None:
    before = processor.processing_key("image", MediaParams())
    PROCESSORS["siglip"].save_pretrained(tmp_path)
    assert make(tmp_path).processing_key("image", MediaParams()) != before


def test_a_processor_that_does_not_fit_the_tower_is_said(processor: LlavaProcessor, tmp_path: Path) -> None:
    PROCESSORS["clip, a larger crop"].save_pretrained(tmp_path)
    with pytest.raises(RequestError, match=r"makes pictures of 28x35 pixels, but its tower takes 32x32"):
        make(tmp_path).process(DecodedImage(pixels=picture(40, 50)), MediaParams())


def test_steps_that_are_left_out_are_not_supported(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_resize": False}))
    with pytest.raises(ModelError, match="do_resize=false"):
        PixelSettings.read(tmp_path)
