"""Experts for few tokens: matrix-vector products, every weight read once a pair, one launch up and one down."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hookline_kernels.triton_moe.kernels import few_down_kernel, few_up_kernel
from hookline_kernels.triton_moe.launching import launch_options
from hookline_kernels.triton_moe.tiles import FewTile

#: Columns that a program of the up product takes in one step.
_MOST_COLUMNS = 4096


def few_up(x_TH: Tensor, w13_EJH: Tensor, ids_TK: Tensor, tile: FewTile) -> Tensor:
    """silu(gate) * up of every pair, [P, I]. The rows of pairs without an expert are not written."""
    hidden, width = x_TH.shape[1], w13_EJH.shape[1] // 2
    hidden_PI = torch.empty(ids_TK.numel(), width, dtype=x_TH.dtype, device=x_TH.device)
    block_i = min(tile.up_rows, triton.next_power_of_2(width))
    few_up_kernel[(ids_TK.numel(), -(-width // block_i))](
        x_TH, w13_EJH, ids_TK, hidden_PI, x_TH.stride(0), w13_EJH.stride(0),
        H=hidden, WIDTH=width, K=ids_TK.shape[1], BLOCK_I=block_i,
        BLOCK_H=min(_MOST_COLUMNS, triton.next_power_of_2(hidden)),
        **launch_options(x_TH.device, num_warps=tile.up_warps, dependent=tile.dependent),
    )  # fmt: skip
    return hidden_PI


def few_down(hidden_PI: Tensor, w2_EHI: Tensor, weights_TK: Tensor, ids_TK: Tensor, tile: FewTile) -> Tensor:
    """The weighted sum over each token's experts, [T, H]. The up product must be the launch before this one."""
    (tokens, top_k), (_, hidden, width) = ids_TK.shape, w2_EHI.shape
    out_TH = torch.empty(tokens, hidden, dtype=hidden_PI.dtype, device=hidden_PI.device)
    block_h = min(tile.down_rows, triton.next_power_of_2(hidden))
    options = launch_options(hidden_PI.device, num_warps=tile.down_warps, dependent=tile.dependent)
    few_down_kernel[(tokens, -(-hidden // block_h))](
        hidden_PI, w2_EHI, weights_TK, ids_TK, out_TH, w2_EHI.stride(0),
        H=hidden, WIDTH=width, K=top_k, BLOCK_H=block_h, BLOCK_K=triton.next_power_of_2(top_k),
        BLOCK_I=_columns(width), **options,
    )  # fmt: skip
    return out_TH


def _columns(width: int) -> int:
    """The largest power of two that divides the width, so that no thread idles; within what registers hold."""
    divisor = width & -width
    return min(512, divisor) if divisor >= 64 else min(512, triton.next_power_of_2(width))
