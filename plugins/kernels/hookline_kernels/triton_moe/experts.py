"""``fused_moe``: few tokens by matrix-vector products, many by grouped products; nothing waits for the device.

Shape letters as in ``kernels``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hookline_kernels.early_launch import has_early_launch
from hookline_kernels.triton_moe.align import align
from hookline_kernels.triton_moe.few import few_down, few_up
from hookline_kernels.triton_moe.grouped import grouped_down, grouped_up, sum_experts
from hookline_kernels.triton_moe.tiles import ExpertsShape, GroupedTile, Tiles, default_grouped, device_name, tiles_for

#: Rows an expert has on average, for which the one tile of the deterministic variant is taken.
_DETERMINISTIC_MEAN = 16.0


def fused_moe(x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
    """See ``hookline.layers.ops``: the weighted sum over each token's experts. Ids of -1 add nothing."""
    if ids_TK.numel() == 0:
        return torch.zeros(x_TH.shape, dtype=x_TH.dtype, device=x_TH.device)
    shape = shape_of(w13_EJH, w2_EHI)
    tiles = tiles_for(device_name(x_TH.device), shape, ids_TK.numel())
    return tiled_moe(x_TH, w13_EJH, w2_EHI, weights_TK, ids_TK, tiles)


def fused_moe_deterministic(
    x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_TK: Tensor, ids_TK: Tensor
) -> Tensor:
    """The same bits for a token in any batch: always the grouped products.

    Hopper's tensor cores add the same products in the same order for every tile there is, whichever side the weights
    are on, so that each number of tokens keeps its tuned tile; elsewhere there is one tile for all.
    """
    if ids_TK.numel() == 0:
        return torch.zeros(x_TH.shape, dtype=x_TH.dtype, device=x_TH.device)
    shape = shape_of(w13_EJH, w2_EHI)
    if has_early_launch(x_TH.device) and x_TH.element_size() == 2:
        tiles = tiles_for(device_name(x_TH.device), shape, ids_TK.numel())
        up, down = tiles.up, tiles.down
    else:
        up, down = default_grouped(_DETERMINISTIC_MEAN, shape.dtype)
    return grouped_moe(x_TH, w13_EJH, w2_EHI, weights_TK, ids_TK, up, down)


def tiled_moe(
    x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_TK: Tensor, ids_TK: Tensor, tiles: Tiles
) -> Tensor:
    """``fused_moe`` with given tiles. There is at least one pair."""
    if ids_TK.numel() > tiles.few_pairs:
        return grouped_moe(x_TH, w13_EJH, w2_EHI, weights_TK, ids_TK, tiles.up, tiles.down)
    x_TH, weights_TK, ids_TK = _rows(x_TH), weights_TK.contiguous(), ids_TK.contiguous()
    hidden_PI = few_up(x_TH, w13_EJH, ids_TK, tiles.few)
    return few_down(hidden_PI, w2_EHI, weights_TK, ids_TK, tiles.few)


def grouped_moe(
    x_TH: Tensor,
    w13_EJH: Tensor,
    w2_EHI: Tensor,
    weights_TK: Tensor,
    ids_TK: Tensor,
    up: GroupedTile,
    down: GroupedTile,
) -> Tensor:
    """``fused_moe`` by grouped products with given tiles. There is at least one pair."""
    x_TH, weights_TK, ids_TK = _rows(x_TH), weights_TK.contiguous(), ids_TK.contiguous()
    order_P, counts_E = align(ids_TK, w13_EJH.shape[0])
    hidden_PI = grouped_up(x_TH, w13_EJH, order_P, counts_E, ids_TK.shape[1], up)
    parts_PH = grouped_down(hidden_PI, w2_EHI, order_P, counts_E, weights_TK, down)
    return sum_experts(parts_PH, ids_TK)


def shape_of(w13_EJH: Tensor, w2_EHI: Tensor) -> ExpertsShape:
    """The key of a tile table for these weights."""
    experts, hidden, width = w2_EHI.shape
    return ExpertsShape(experts=experts, width=width, hidden=hidden, dtype=str(w13_EJH.dtype).removeprefix("torch."))


def _rows(x_TH: Tensor) -> Tensor:
    return x_TH if x_TH.stride(-1) == 1 else x_TH.contiguous()
