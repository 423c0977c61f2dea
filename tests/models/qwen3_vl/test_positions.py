"""M-RoPE positions: equal to transformers' get_rope_index."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLModel

from hookline_models.qwen3_vl.positions import GridRun, mrope_positions

IMAGE, VIDEO = 1, 2
#: Pieces of a prompt: the length of a text, or (kind, (T, H, W) in patches).
Piece = int | tuple[int, tuple[int, int, int]]

CASES: dict[str, list[Piece]] = {
    "text": [7],
    "image": [3, (IMAGE, (1, 4, 6)), 5],
    "starts with an image": [(IMAGE, (1, 6, 2)), 1],
    "ends with an image": [2, (IMAGE, (1, 2, 10))],
    "several images": [1, (IMAGE, (1, 4, 4)), 2, (IMAGE, (1, 2, 8)), 1, (IMAGE, (1, 12, 2)), 9],
    "video": [2, (VIDEO, (3, 4, 6)), 4],
    "two videos and an image": [2, (VIDEO, (2, 4, 4)), 1, (IMAGE, (1, 8, 4)), 2, (VIDEO, (1, 2, 6)), 1],
}


@pytest.fixture(scope="module")
def model() -> Any:
    config = Qwen3VLConfig(
        text_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "intermediate_size": 8,
            "vocab_size": 32,
        },
        vision_config={"depth": 1, "hidden_size": 16, "num_heads": 1, "intermediate_size": 8, "out_hidden_size": 16},
    )
    return Qwen3VLModel(config)


def _check(model: Any, pieces: list[Piece]) -> None:
    types: list[int] = []
    runs: list[GridRun] = []
    grids: dict[int, list[tuple[int, int, int]]] = {IMAGE: [], VIDEO: []}
    for piece in pieces:
        if isinstance(piece, int):
            types += [0] * piece
            continue
        kind, grid = piece
        grids[kind].append(grid)
        for pair in range(grid[0]):
            # Pairs of frames have their times, as text, between them.
            types += [0, 0] if pair else []
            runs.append(GridRun(start=len(types), rows=grid[1] // 2, cols=grid[2] // 2))
            types += [kind] * (grid[1] * grid[2] // 4)
    expected, delta = model.get_rope_index(
        torch.zeros(1, len(types), dtype=torch.long),
        torch.tensor([types]),
        image_grid_thw=torch.tensor(grids[IMAGE]) if grids[IMAGE] else None,
        video_grid_thw=torch.tensor(grids[VIDEO]) if grids[VIDEO] else None,
    )
    positions, own_delta = mrope_positions(len(types), runs)
    np.testing.assert_array_equal(positions, expected[:, 0].numpy())
    assert own_delta == int(delta)


@pytest.mark.parametrize("case", CASES)
def test_positions_are_those_of_transformers(model: Any, case: str) -> None:
    _check(model, CASES[case])


def test_random_prompts(model: Any) -> None:
    draw = random.Random(3)
    for _ in range(40):
        pieces: list[Piece] = [draw.randint(1, 5)]
        for _ in range(draw.randint(1, 5)):
            kind = draw.choice([IMAGE, VIDEO])
            pairs = draw.randint(1, 4) if kind == VIDEO else 1
            pieces += [(kind, (pairs, 2 * draw.randint(1, 6), 2 * draw.randint(1, 6))), draw.randint(1, 5)]
        _check(model, pieces)


def test_an_empty_prompt_has_no_positions() -> None:
    positions, delta = mrope_positions(0, [])
    assert positions.shape == (3, 0)
    assert delta == 0
