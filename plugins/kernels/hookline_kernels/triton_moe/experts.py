"""``fused_moe``: few tokens by matrix-vector products, many by grouped products; nothing waits for the device.

Shape letters as in ``kernels``.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hookline_kernels.triton_moe.kernels import few_down_kernel, few_up_kernel, grouped_kernel, sum_kernel
from hookline_kernels.triton_moe.tiles import FEW_PAIRS, grouped_tile


def fused_moe(x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
    """See ``hookline.layers.ops``: the weighted sum over each token's experts. Ids of -1 add nothing."""
    if x_TH.stride(-1) != 1:
        x_TH = x_TH.contiguous()
    if ids_TK.numel() == 0:
        return torch.zeros(x_TH.shape, dtype=x_TH.dtype, device=x_TH.device)
    weights_P, ids_P = weights_TK.reshape(-1), ids_TK.reshape(-1)
    if ids_TK.numel() <= FEW_PAIRS:
        return _few(x_TH, w13_EJH, w2_EHI, weights_P, ids_P, ids_TK.shape[1])
    return _grouped(x_TH, w13_EJH, w2_EHI, weights_P, ids_P, ids_TK.shape[1])


def _few(x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_P: Tensor, ids_P: Tensor, top_k: int) -> Tensor:
    tokens, hidden = x_TH.shape
    width = w2_EHI.shape[2]
    hidden_PI = torch.empty(len(ids_P), width, dtype=x_TH.dtype, device=x_TH.device)
    out_TH = torch.empty(tokens, hidden, dtype=x_TH.dtype, device=x_TH.device)
    block_i, block_h = min(8, triton.next_power_of_2(width)), min(512, triton.next_power_of_2(hidden))
    few_up_kernel[(len(ids_P), -(-width // block_i))](
        x_TH, w13_EJH, ids_P, hidden_PI, x_TH.stride(0), w13_EJH.stride(0),
        H=hidden, WIDTH=width, K=top_k, BLOCK_I=block_i, BLOCK_H=block_h, num_warps=4,
    )  # fmt: skip
    block_h, block_i = min(8, triton.next_power_of_2(hidden)), min(512, triton.next_power_of_2(width))
    few_down_kernel[(tokens, -(-hidden // block_h))](
        hidden_PI, w2_EHI, weights_P, ids_P, out_TH, w2_EHI.stride(0),
        H=hidden, WIDTH=width, K=top_k, BLOCK_H=block_h, BLOCK_I=block_i, num_warps=4,
    )  # fmt: skip
    return out_TH


def _grouped(x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_P: Tensor, ids_P: Tensor, top_k: int) -> Tensor:
    tokens, hidden = x_TH.shape
    experts, width = w13_EJH.shape[0], w2_EHI.shape[2]
    pairs, device = len(ids_P), x_TH.device
    tile = grouped_tile(pairs, experts, x_TH.dtype)
    order_P, begins_E, counts_E, tiles_E = _by_expert(ids_P, experts, tile.rows)
    # Every expert may end with a tile that is not full; programs beyond the last tile return at once.
    most_tiles = -(-pairs // tile.rows) + min(experts, pairs)
    precision = "ieee" if x_TH.dtype is torch.float32 else "tf32"
    common = {
        "E": experts, "K": top_k, "BLOCK_E": triton.next_power_of_2(experts), "BLOCK_M": tile.rows,
        "BLOCK_C": tile.depth, "PRECISION": precision, "num_warps": tile.num_warps, "num_stages": tile.num_stages,
    }  # fmt: skip
    hidden_PI = torch.empty(pairs, width, dtype=x_TH.dtype, device=device)
    block = min(tile.columns_up, triton.next_power_of_2(width))
    grouped_kernel[(most_tiles, -(-width // block))](
        x_TH, w13_EJH, order_P, begins_E, counts_E, tiles_E, weights_P, hidden_PI,
        x_TH.stride(0), w13_EJH.stride(0), C=hidden, OUT=width, BLOCK_O=max(16, block), IS_UP=True, **common,
    )  # fmt: skip
    parts_PH = torch.empty(pairs, hidden, dtype=x_TH.dtype, device=device)
    block = min(tile.columns_down, triton.next_power_of_2(hidden))
    grouped_kernel[(most_tiles, -(-hidden // block))](
        hidden_PI, w2_EHI, order_P, begins_E, counts_E, tiles_E, weights_P, parts_PH,
        hidden_PI.stride(0), w2_EHI.stride(0),
        C=width, OUT=hidden, BLOCK_O=max(16, block), IS_UP=False, **common,
    )  # fmt: skip
    out_TH = torch.empty(tokens, hidden, dtype=x_TH.dtype, device=device)
    block = min(1024, triton.next_power_of_2(hidden))
    sum_kernel[(tokens, -(-hidden // block))](parts_PH, ids_P, out_TH, H=hidden, K=top_k, BLOCK_H=block, num_warps=4)
    return out_TH


def _by_expert(ids_P: Tensor, experts: int, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs sorted by expert, where each expert's begin, how many it has, and at which tile it ends."""
    sorted_P, order_P = ids_P.sort(stable=True)
    bounds = torch.arange(experts + 1, device=ids_P.device)
    begins = torch.searchsorted(sorted_P, bounds)
    counts_E = begins[1:] - begins[:-1]
    tiles_E = torch.div(counts_E + (rows - 1), rows, rounding_mode="floor").cumsum(0)
    return order_P, begins[:-1], counts_E, tiles_E
