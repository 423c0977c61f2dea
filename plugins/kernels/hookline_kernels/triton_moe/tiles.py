"""Tiles of the grouped products, by how many rows an expert gets."""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: Pairs up to which matrix-vector products win: experts are then rarely shared, and sorting would take longer.
FEW_PAIRS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedTile:
    """What a grouped product is compiled for."""

    rows: int
    columns_up: int
    columns_down: int
    depth: int
    num_warps: int
    num_stages: int


def grouped_tile(pairs: int, experts: int, dtype: torch.dtype) -> GroupedTile:
    """By the mean number of rows of an expert."""
    mean = pairs / experts
    if dtype is torch.float32:
        return GroupedTile(rows=16, columns_up=32, columns_down=32, depth=32, num_warps=4, num_stages=2)
    if mean <= 16:
        return GroupedTile(rows=16, columns_up=64, columns_down=64, depth=128, num_warps=4, num_stages=3)
    if mean <= 64:
        return GroupedTile(rows=64, columns_up=64, columns_down=128, depth=64, num_warps=4, num_stages=3)
    return GroupedTile(rows=128, columns_up=64, columns_down=128, depth=64, num_warps=8, num_stages=3)
