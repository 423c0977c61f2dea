"""How the kernels of the experts are cut: measured tables by device and shape, and a rule where there is none.

A table is a JSON file beside this module, named after the device, written by ``hookline_kernels.tune``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import torch

#: Pairs up to which matrix-vector products win, where no table says otherwise: experts are then rarely shared.
FEW_PAIRS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class FewTile:
    """What the matrix-vector products are compiled for: rows of weights a program, and warps."""

    up_rows: int = 2
    up_warps: int = 8
    down_rows: int = 1
    down_warps: int = 8
    #: Dependent launches, where the device has them.
    dependent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedTile:
    """What one grouped product is compiled for."""

    #: Rows of an expert (pairs), columns of its output, and depth of a step.
    rows: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int
    #: The weights are the left side of the product: for few rows.
    swap: bool = False
    #: Weights, or rows (of the down product only), through the tensor memory accelerator.
    weights_tma: bool = False
    rows_tma: bool = False
    #: Persistent programs a multiprocessor, each fetching its next tile while it writes one; 0: a program a tile.
    per_sm: int = 0
    #: The last tile of an expert has half the rows if those are enough; not with ``per_sm`` or ``rows_tma``.
    half_tail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The choice for one number of pairs."""

    few_pairs: int
    few: FewTile
    up: GroupedTile
    down: GroupedTile


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsShape:
    """What a table is keyed by."""

    experts: int
    width: int
    hidden: int
    dtype: str


@lru_cache(maxsize=4096)
def tiles_for(device_name: str, shape: ExpertsShape, pairs: int) -> Tiles:
    """The tiles of the nearest number of pairs that was measured, or by rule."""
    table = _table(device_name)
    for entry in table:
        if ExpertsShape(**entry["shape"]) == shape and entry["grouped"]:
            nearest = min(entry["grouped"], key=lambda one: abs(one["pairs"] - pairs))
            return Tiles(
                few_pairs=entry["few_pairs"],
                few=FewTile(**entry["few"]),
                up=GroupedTile(**nearest["up"]),
                down=GroupedTile(**nearest["down"]),
            )
    up, down = default_grouped(pairs / shape.experts, shape.dtype)
    return Tiles(few_pairs=FEW_PAIRS, few=FewTile(), up=up, down=down)


def default_grouped(mean: float, dtype: str) -> tuple[GroupedTile, GroupedTile]:
    """Tiles of both products by the mean number of rows of an expert."""
    if dtype == "float32":
        tile = GroupedTile(rows=16, columns=32, depth=32, num_warps=4, num_stages=2)
        return tile, tile
    if mean <= 48:
        rows = 16 if mean <= 8 else 32 if mean <= 20 else 64
        up = GroupedTile(rows=rows, columns=64, depth=128, num_warps=4, num_stages=3, swap=True)
        down = GroupedTile(rows=rows, columns=128, depth=128, num_warps=4, num_stages=3, swap=True)
        return up, down
    if mean <= 96:
        up = GroupedTile(rows=64, columns=64, depth=64, num_warps=4, num_stages=4)
        return up, GroupedTile(rows=64, columns=128, depth=64, num_warps=4, num_stages=4)
    up = GroupedTile(rows=128, columns=128, depth=64, num_warps=8, num_stages=3)
    return up, GroupedTile(rows=128, columns=256, depth=64, num_warps=8, num_stages=3)


def table_name(device_name: str) -> str:
    """The file of a device: ``NVIDIA H200`` -> ``nvidia_h200.json``."""
    return "_".join(device_name.lower().split()) + ".json"


@lru_cache
def device_name(device: torch.device) -> str:
    """The name that tables go by; ``cpu`` in the interpreter."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@lru_cache
def _table(device_name: str) -> list[dict[str, Any]]:
    file = files(__package__).joinpath("tables", table_name(device_name))
    if not file.is_file():
        return []
    entries: list[dict[str, Any]] = json.loads(file.read_text())
    return entries
