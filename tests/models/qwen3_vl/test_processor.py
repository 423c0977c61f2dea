"""Qwen3VLProcessor: prompts, places and positions as transformers' processor and model make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor as Reference
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

from hookline.config.model_config import ModelConfig
from hookline.errors import RequestError
from hookline.interfaces.multimodal import (
    IMAGE,
    VIDEO,
    ClipInfo,
    DecodedImage,
    DecodedVideo,
    MediaParams,
    ProcessedMedia,
    ProcessorEnv,
)
from hookline.text.tokenizer import load_tokenizer
from hookline_models.qwen3_vl.processor import Qwen3VLProcessor
from tests.factories.clips import clip_frames

DEMO = Path(__file__).parents[3] / "plugins/demo/hookline_demo/checkpoint"
NOTHING = MediaParams()
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
CLIP = "<|vision_start|><|video_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def processor() -> Qwen3VLProcessor:
    tokenizer = load_tokenizer(DEMO)
    return Qwen3VLProcessor(
        ProcessorEnv(
            model=ModelConfig.load(DEMO), tokenize=lambda text: tokenizer.encode(text, add_special_tokens=False)
        )
    )


@pytest.fixture(scope="module")
def reference() -> Any:
    # What the class checks of its parts fails without torchvision; what it does with them does not.
    processor = Reference.__new__(Reference)
    processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(DEMO)
    processor.video_processor = Qwen3VLVideoProcessor.from_pretrained(DEMO)
    processor.tokenizer = AutoTokenizer.from_pretrained(DEMO)
    processor.image_token, processor.video_token = "<|image_pad|>", "<|video_pad|>"
    processor.vision_start_token, processor.vision_end_token = "<|vision_start|>", "<|vision_end|>"
    return processor


def _image(processor: Qwen3VLProcessor, height: int, width: int, **params: Any) -> ProcessedMedia:
    return processor.process(DecodedImage(pixels=clip_frames((1, height, width))[0]), MediaParams(**params))


def _clip(processor: Qwen3VLProcessor, frames: int, height: int, width: int, fps: float | None = 4.0) -> ProcessedMedia:
    info = ClipInfo(num_frames=frames, height=height, width=width, fps=fps)
    indices = processor.sample_frames(info, NOTHING)
    pixels = clip_frames((frames, height, width))[list(indices)]
    return processor.process(DecodedVideo(frames=pixels, indices=indices, info=info), NOTHING)


def _reference_ids(reference: Any, prompt: str, media: list[ProcessedMedia], fps: float | None = 4.0) -> list[int]:
    images = [one for one in media if one.kind == IMAGE]
    videos = [one for one in media if one.kind == VIDEO]
    grids = [np.array([sum(item.grid[0] for item in one.items), *one.items[0].grid[1:]]) for one in [*images, *videos]]
    image_inputs = {"image_grid_thw": grids[: len(images)]}
    metadata = [_metadata(reference, one, fps) for one in videos]
    video_inputs = {"video_grid_thw": grids[len(images) :], "video_metadata": metadata}
    texts, _ = reference.get_text_with_replacements(
        [prompt],
        images_replacements=[reference.replace_image_token(image_inputs, i) for i in range(len(images))],
        videos_replacements=[reference.replace_video_token(video_inputs, i) for i in range(len(videos))],
    )
    return list(reference.tokenizer(texts[0])["input_ids"])


def _metadata(reference: Any, media: ProcessedMedia, fps: float | None) -> VideoMetadata:
    metadata = VideoMetadata(total_num_frames=_CLIP_FRAMES, fps=fps)
    metadata.frames_indices = reference.video_processor.sample_frames(metadata, fps=2)
    return metadata


_CLIP_FRAMES = 9


@pytest.mark.parametrize(
    ("prompt", "kinds"),
    [
        (f"Look: {PICTURE} what is it?", "i"),
        (f"{PICTURE}{PICTURE}", "ii"),
        (f"One {CLIP} clip", "v"),
        (f"{CLIP} and 2{CLIP}5 and {PICTURE}!", "vvi"),
        (f"{PICTURE} then {CLIP}\nthen {PICTURE} 17", "ivi"),
        ("bare <|image_pad|>", "i"),
    ],
)
@pytest.mark.parametrize("fps", [4.0, None])
def test_prompts_are_those_of_transformers(
    processor: Qwen3VLProcessor, reference: Any, prompt: str, kinds: str, fps: float | None
) -> None:
    sizes = iter([(64, 96), (70, 64), (128, 64)])
    media = [
        _image(processor, *next(sizes)) if kind == "i" else _clip(processor, _CLIP_FRAMES, *next(sizes), fps=fps)
        for kind in kinds
    ]
    expanded = processor.expand(prompt, media)
    assert expanded.input_ids == _reference_ids(reference, prompt, media, fps)
    _check_spans(expanded.input_ids, expanded.spans, media)
    assert expanded.positions is not None
    assert expanded.positions.shape == (3, len(expanded.input_ids))
    assert expanded.position_delta < 0


def _check_spans(ids: list[int], spans: list[list[tuple[int, int]]], media: list[ProcessedMedia]) -> None:
    items = [(one.kind, item) for one in media for item in one.items]
    pads = {IMAGE: 4082, VIDEO: 4083}
    seen: set[int] = set()
    for (kind, item), runs in zip(items, spans, strict=True):
        places = [place for start, length in runs for place in range(start, start + length)]
        assert len(places) == item.num_rows
        assert {ids[place] for place in places} == {pads[kind]}
        assert not seen & set(places)
        seen |= set(places)
    assert seen == {place for place, token in enumerate(ids) if token in pads.values()}


def test_ids_expand_as_text_does(processor: Qwen3VLProcessor) -> None:
    prompt = f"a {PICTURE} b {CLIP} c"
    media = [_image(processor, 64, 64), _clip(processor, 5, 64, 64)]
    from_ids = processor.expand(processor.env.tokenize(prompt), media)
    from_text = processor.expand(prompt, media)
    assert from_ids.input_ids == from_text.input_ids
    assert from_ids.spans == from_text.spans


def test_a_long_clip_is_cut_between_pairs(processor: Qwen3VLProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookline_models.qwen3_vl.processor._PATCHES_PER_RUN", 40)
    whole = _clip(processor, 9, 64, 64)
    assert [item.grid for item in whole.items] == [(2, 4, 4), (1, 4, 4)][: len(whole.items)]
    joined = np.concatenate([item.tensors["patches"] for item in whole.items])
    monkeypatch.setattr("hookline_models.qwen3_vl.processor._PATCHES_PER_RUN", 4096)
    (single,) = _clip(processor, 9, 64, 64).items
    np.testing.assert_array_equal(joined, single.tensors["patches"])
    expanded = processor.expand(CLIP, [whole])
    assert [len(runs) for runs in expanded.spans] == [item.grid[0] for item in whole.items]


@pytest.mark.parametrize(
    ("prompt", "kinds"), [("no place", "i"), (PICTURE, ""), (f"{PICTURE}{PICTURE}", "i"), (CLIP, "i")]
)
@pytest.mark.parametrize("as_ids", [False, True])
def test_placeholders_and_media_must_agree(processor: Qwen3VLProcessor, prompt: str, kinds: str, as_ids: bool) -> None:
    media = [_image(processor, 64, 64) for _ in kinds]
    with pytest.raises(RequestError, match=r"there must be one for each") as caught:
        processor.expand(processor.env.tokenize(prompt) if as_ids else prompt, media)
    assert caught.value.code == "media_mismatch"


def test_requests_may_set_the_pixels(processor: Qwen3VLProcessor) -> None:
    assert _image(processor, 192, 192).items[0].grid == (1, 12, 12)
    assert _image(processor, 192, 192, max_pixels=96 * 96).items[0].grid == (1, 6, 6)
    assert _image(processor, 64, 64, min_pixels=128 * 128).items[0].grid == (1, 8, 8)
    # Beyond the checkpoint's own limit, on the other side of it.
    assert _image(processor, 64, 64, min_pixels=256 * 256).items[0].grid == (1, 16, 16)
    assert _image(processor, 64, 64, max_pixels=32 * 32).items[0].grid == (1, 2, 2)


def test_requests_may_choose_frames(processor: Qwen3VLProcessor) -> None:
    info = ClipInfo(num_frames=40, height=64, width=64, fps=10.0)
    assert len(processor.sample_frames(info, NOTHING)) == 8
    assert len(processor.sample_frames(info, MediaParams(fps=1.0))) == 4
    assert processor.sample_frames(info, MediaParams(num_frames=3)) == [0, 20, 39]


def test_keys_tell_settings_apart(processor: Qwen3VLProcessor) -> None:
    keys = {
        processor.processing_key(kind, params)
        for kind in (IMAGE, VIDEO)
        for params in (NOTHING, MediaParams(max_pixels=5000), MediaParams(min_pixels=5000))
    }
    assert len(keys) == 6
    assert processor.processing_key(VIDEO, MediaParams(fps=2.0)) == processor.processing_key(VIDEO, NOTHING)
    assert processor.processing_key(VIDEO, MediaParams(fps=3.0)) != processor.processing_key(VIDEO, NOTHING)
