"""Dense products as core calls them: matrix-vector kernels for few tokens, torch's product for many.

Shape letters as in ``hookline.layers.ops``.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from hookline_kernels.early_launch import early_launch
from hookline_kernels.triton_dense.dense_kernels import matvec_kernel
from hookline_kernels.triton_dense.tiles import few_tokens, matvec_tile
from hookline_kernels.triton_ops.rows import fused_add_rms_norm, rms_norm, silu_and_mul


def linear(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``x`` times the transposed weight, plus the bias."""
    if _is_few(x_TI, weight_OI):
        return _matvec(x_TI, None, None, 0.0, weight_OI, bias_O, is_gated=False)[0]
    return F.linear(x_TI, weight_OI, bias_O)


def logits(hidden_SH: Tensor, weight_VH: Tensor) -> Tensor:
    """The product in float32, without a pass that converts it."""
    if _is_few(hidden_SH, weight_VH):
        return _matvec(hidden_SH, None, None, 0.0, weight_VH, None, is_gated=False, dtype=torch.float32)[0]
    if hidden_SH.device.type == "cuda" and hidden_SH.dtype is not torch.float32 and hidden_SH.shape[0]:
        return torch.mm(hidden_SH, weight_VH.t(), out_dtype=torch.float32)
    return F.linear(hidden_SH, weight_VH).float()


def add_norm_linear(
    x_TH: Tensor, residual_TH: Tensor | None, norm_H: Tensor, eps: float, weight_OH: Tensor, bias_O: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(norm(x + residual) times the transposed weight, x + residual)."""
    if _is_few(x_TH, weight_OH):
        return _matvec(x_TH, residual_TH, norm_H, eps, weight_OH, bias_O, is_gated=False)
    normed, total = _add_norm(x_TH, residual_TH, norm_H, eps)
    return F.linear(normed, weight_OH, bias_O), total


def add_norm_gated(
    x_TH: Tensor, residual_TH: Tensor | None, norm_H: Tensor, eps: float, weight_JH: Tensor
) -> tuple[Tensor, Tensor]:
    """(silu(gate) * up of norm(x + residual), x + residual)."""
    if _is_few(x_TH, weight_JH):
        return _matvec(x_TH, residual_TH, norm_H, eps, weight_JH, None, is_gated=True)
    normed, total = _add_norm(x_TH, residual_TH, norm_H, eps)
    return silu_and_mul(F.linear(normed, weight_JH)), total


def _add_norm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    if residual is None:
        return rms_norm(x, weight, eps), x
    return fused_add_rms_norm(x, residual, weight, eps)


def _is_few(x: Tensor, weight: Tensor) -> bool:
    return x.dim() == 2 and 0 < x.shape[0] <= few_tokens(x.shape[1], weight.shape[0]) and weight.is_contiguous()


def _matvec(
    x: Tensor,
    residual: Tensor | None,
    norm: Tensor | None,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    *,
    is_gated: bool,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The product, in ``dtype`` or else that of x, and the sum of input and residual."""
    if x.stride(-1) != 1:
        x = x.contiguous()
    tokens, inputs = x.shape
    outputs = weight.shape[0] // 2 if is_gated else weight.shape[0]
    out = torch.empty(tokens, outputs, dtype=dtype or x.dtype, device=x.device)
    total = x if residual is None else torch.empty(tokens, inputs, dtype=x.dtype, device=x.device)
    tile = matvec_tile(inputs, outputs, is_gated)
    block_c = min(tile.inputs, triton.next_power_of_2(inputs))
    matvec_kernel[(triton.cdiv(outputs, tile.outputs),)](
        x, x if residual is None else residual, x if norm is None else norm, weight, x if bias is None else bias,
        out, total, tokens, x.stride(0), 0 if residual is None else residual.stride(0), out.stride(0), eps,
        C=inputs, OUT=outputs, BLOCK_O=tile.outputs, BLOCK_C=block_c, BLOCK_ROW=triton.next_power_of_2(inputs),
        HAS_RESIDUAL=residual is not None, HAS_NORM=norm is not None, HAS_BIAS=bias is not None, IS_GATED=is_gated,
        num_warps=tile.num_warps, **early_launch(x.device),
    )  # fmt: skip
    return out, total
