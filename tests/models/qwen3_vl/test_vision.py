"""The vision tower gives what transformers' gives, for grids of all shapes and however items are put together."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hookline.batch.forward_batch import EncoderRows
from hookline.errors import ModelError
from hookline.interfaces.multimodal import EncoderInput
from hookline.layers.model import Model
from hookline.testkit.model_harness import ModelHarness
from hookline.worker.model_loader import load_weights
from hookline_models.qwen3_vl.processor import Qwen3VLProcessor
from tests.factories.vision import (
    CLIP,
    PICTURE,
    PromptMaker,
    VisionPrompt,
    clip,
    make_vision_checkpoint,
    picture,
    qwen_inputs,
)

TOLERANCE = 1e-4
FAMILIES = ("qwen3_vl_moe", "qwen3_vl")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make_vision_checkpoint(tmp_path_factory.mktemp(name), name) for name in FAMILIES}


@cache
def load(path: Path) -> tuple[Model, Any]:
    """Ours and transformers', of one checkpoint."""
    model = ModelHarness.build(path)
    load_weights(model, path)
    model.finalize()
    reference = transformers.AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()
    return model, reference


def inputs_of(prompt: VisionPrompt) -> list[EncoderInput]:
    return [
        EncoderInput(
            kind=entry.kind,
            tensors={name: torch.from_numpy(array) for name, array in item.tensors.items()},
            grid=item.grid,
            num_rows=item.num_rows,
        )
        for entry in prompt.media
        for item in entry.items
    ]


@torch.inference_mode()
def reference_rows(reference: Any, prompt: VisionPrompt) -> torch.Tensor:
    """[N, E]: embeddings and deepstack parts side by side, pictures first."""
    wanted = qwen_inputs(prompt)
    parts = []
    for pixels, grid in (("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw")):
        if pixels in wanted:
            found = reference.model.visual(wanted[pixels], grid_thw=wanted[grid])
            parts.append(torch.cat([found.pooler_output, *found.deepstack_features], dim=-1))
    return torch.cat(parts)


CASES: dict[str, tuple[str, list[Any]]] = {
    "one": (PICTURE, [picture(1)]),
    "wide": (PICTURE, [picture(2, 64, 192)]),
    "high": (PICTURE, [picture(3, 190, 64)]),
    "odd sizes": (PICTURE * 2, [picture(4, 71, 133), picture(5, 97, 65)]),
    "larger than the table": (PICTURE, [picture(6, 192, 192)]),
    "clip": (CLIP, [clip(7, frames=5)]),
    "pictures and clips": (PICTURE + CLIP + PICTURE + CLIP, [picture(8), clip(9, 4), picture(10, 96, 96), clip(11, 6)]),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_rows_are_those_of_transformers(case: str, family: str, paths: dict[str, Path]) -> None:
    model, reference = load(paths[family])
    text, media = CASES[case]
    prompt = PromptMaker(paths[family], Qwen3VLProcessor)(text, *media)
    items = inputs_of(prompt)
    with torch.inference_mode():
        rows = model.encode(items)
    assert [tuple(part.shape) for part in rows] == [(item.num_rows, model.encoder_row_size) for item in items]
    ordered = [part for kind in ("image", "video") for item, part in zip(items, rows, strict=True) if item.kind == kind]
    torch.testing.assert_close(torch.cat(ordered), reference_rows(reference, prompt), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_a_prompt_are_those_of_transformers(family: str, paths: dict[str, Path]) -> None:
    model, reference = load(paths[family])
    text, media = CASES["pictures and clips"]
    prompt = PromptMaker(paths[family], Qwen3VLProcessor)(f"Tell me: {text} what?", *media)
    with torch.inference_mode():
        rows = EncoderRows(places=places_of(prompt), rows=torch.cat(model.encode(inputs_of(prompt))))
        wanted = reference(**qwen_inputs(prompt)).logits[0]
    assert prompt.expanded.positions is not None
    found = ModelHarness(model).step(
        {"a": prompt.input_ids},
        all_logits=True,
        positions=torch.from_numpy(prompt.expanded.positions),
        encoder_rows=rows,
    )["a"]
    torch.testing.assert_close(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def places_of(prompt: VisionPrompt) -> torch.Tensor:
    """[N]; the media of these prompts come in order."""
    spans = [span for item in prompt.expanded.spans for span in item]
    return torch.cat([torch.arange(start, start + length) for start, length in spans])


def test_the_rows_of_an_item_do_not_depend_on_its_neighbours(paths: dict[str, Path]) -> None:
    model, _ = load(paths["qwen3_vl_moe"])
    items = inputs_of(PromptMaker(paths["qwen3_vl_moe"], Qwen3VLProcessor)(PICTURE + CLIP, picture(1), clip(2)))
    with torch.inference_mode():
        together = model.encode(items)
        alone = [model.encode([item])[0] for item in items]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("grid", "num_rows", "message"),
    [((1, 4, 8), 6, "do not make a grid"), ((1, 4, 6), 5, "give 6 rows, not 5"), ((4, 6), 6, "grid of three")],
)
def test_an_item_that_does_not_fit_its_grid_is_refused(
    grid: tuple[int, ...], num_rows: int, message: str, paths: dict[str, Path]
) -> None:
    model, _ = load(paths["qwen3_vl"])
    item = EncoderInput(
        kind="image", tensors={"patches": torch.zeros(24, 768, dtype=torch.uint8)}, grid=grid, num_rows=num_rows
    )
    with pytest.raises(ModelError, match=message):
        model.encode([item])


def test_adapters_do_not_find_the_tower(paths: dict[str, Path]) -> None:
    model, _ = load(paths["qwen3_vl"])
    assert model.linears
    assert not [path for path in model.linears if "visual" in path]
