"""Experts for many tokens: pairs sorted by expert, a grouped product up, one down, and a sum over the experts."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from hookline_kernels.triton_moe.kernels import grouped_kernel, sum_kernel
from hookline_kernels.triton_moe.launching import launch_options, num_sms
from hookline_kernels.triton_moe.tiles import GroupedTile


def grouped_up(
    x_TH: Tensor, w13_EJH: Tensor, order_P: Tensor, counts_E: Tensor, top_k: int, tile: GroupedTile
) -> Tensor:
    """silu(gate) * up of every pair in sorted order, [P, I]."""
    hidden_PI = torch.empty(len(order_P), w13_EJH.shape[1] // 2, dtype=x_TH.dtype, device=x_TH.device)
    _grouped(x_TH, w13_EJH, order_P, counts_E, order_P, hidden_PI, top_k, tile, is_up=True)
    return hidden_PI


def grouped_down(
    hidden_PI: Tensor, w2_EHI: Tensor, order_P: Tensor, counts_E: Tensor, weights_TK: Tensor, tile: GroupedTile
) -> Tensor:
    """Each pair's output times its routing weight, at the pair's own place, [P, H]."""
    parts_PH = torch.empty(len(order_P), w2_EHI.shape[1], dtype=hidden_PI.dtype, device=hidden_PI.device)
    _grouped(hidden_PI, w2_EHI, order_P, counts_E, weights_TK, parts_PH, weights_TK.shape[1], tile, is_up=False)
    return parts_PH


def sum_experts(parts_PH: Tensor, ids_TK: Tensor) -> Tensor:
    """[T, H]: the parts of each token added up in the order of its experts."""
    (tokens, top_k), hidden = ids_TK.shape, parts_PH.shape[1]
    out_TH = torch.empty(tokens, hidden, dtype=parts_PH.dtype, device=parts_PH.device)
    block = min(1024, triton.next_power_of_2(hidden))
    sum_kernel[(tokens, -(-hidden // block))](
        parts_PH, ids_TK, out_TH, H=hidden, K=top_k, BLOCK_H=block, **launch_options(parts_PH.device, num_warps=4)
    )
    return out_TH


def _grouped(
    x_RC: Tensor,
    w_EOC: Tensor,
    order_P: Tensor,
    counts_E: Tensor,
    weights: Tensor,
    out_PO: Tensor,
    top_k: int,
    tile: GroupedTile,
    is_up: bool,
) -> None:
    pairs, out = out_PO.shape
    experts, depth, parts = w_EOC.shape[0], w_EOC.shape[2], 2 if is_up else 1
    block_o = max(16, min(tile.columns, triton.next_power_of_2(out)))
    block_c = max(16, min(tile.depth, triton.next_power_of_2(depth)))
    # Every expert may end with a tile that is not full.
    most_tiles = (-(-pairs // tile.rows) + min(experts, pairs)) * -(-out // block_o)
    programs = min(most_tiles, tile.per_sm * num_sms(x_RC.device)) if tile.per_sm else most_tiles
    weights_tma = tile.weights_tma and _has_descriptor(w_EOC)
    rows_tma = tile.rows_tma and not is_up and _has_descriptor(x_RC)
    w: object = w_EOC
    if weights_tma:
        shape, strides = [experts * parts, out, depth], [out * depth, depth, 1]
        w = TensorDescriptor(w_EOC, shape, strides, [parts, block_o, block_c])
    x: object = TensorDescriptor.from_tensor(x_RC, [tile.rows, block_c]) if rows_tma else x_RC
    grouped_kernel[(programs,)](
        x, w, order_P, counts_E, weights, out_PO, x_RC.stride(0), w_EOC.stride(0), programs,
        C=depth, OUT=out, E=experts, K=top_k, BLOCK_E=triton.next_power_of_2(experts),
        BLOCK_M=tile.rows, BLOCK_O=block_o, BLOCK_C=block_c, IS_UP=is_up, SWAP=tile.swap,
        W_TMA=weights_tma, X_TMA=rows_tma, IS_PERSISTENT=tile.per_sm > 0,
        HALF_TAIL=tile.half_tail and not rows_tma and tile.per_sm == 0 and tile.rows >= 32,
        PRECISION="ieee" if x_RC.dtype is torch.float32 else "tf32",
        **launch_options(x_RC.device, num_warps=tile.num_warps, num_stages=tile.num_stages),
    )  # fmt: skip


def _has_descriptor(tensor: Tensor) -> bool:
    """Whether the copy engine takes it: rows of whole 16 bytes, contiguous."""
    return tensor.is_contiguous() and tensor.shape[-1] * tensor.element_size() % 16 == 0 and tensor.data_ptr() % 16 == 0
