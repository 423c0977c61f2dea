"""``linear`` for deterministic engines: tiles follow from the weight, not from the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from hookline_kernels.triton_invariant.kernels import invariant_linear_kernel

#: Tokens from which on larger tiles are taken in 16-bit dtypes. A matrix unit adds up an element's products in steps
#: of the same 16 inputs in both, so this changes no bits; a test on the GPU compares them.
MANY_TOKENS = 512
#: Outputs up to which tiles are narrow, so that there are enough of them to read the weight at full speed.
_NARROW_OUTPUTS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearTile:
    """What a product is compiled for."""

    tokens: int
    outputs: int
    inputs: int
    num_warps: int
    num_stages: int


_EXACT = LinearTile(tokens=16, outputs=32, inputs=32, num_warps=4, num_stages=2)
_NARROW = LinearTile(tokens=64, outputs=32, inputs=128, num_warps=4, num_stages=4)
_WIDE = LinearTile(tokens=64, outputs=128, inputs=64, num_warps=4, num_stages=4)
_MANY = LinearTile(tokens=128, outputs=128, inputs=64, num_warps=8, num_stages=4)


def linear_tile(tokens: int, outputs: int, dtype: torch.dtype) -> LinearTile:
    """The tile of a product. All tiles of a dtype give the same bits."""
    if dtype is torch.float32:
        return _EXACT
    if tokens >= MANY_TOKENS:
        return _MANY
    return _NARROW if outputs <= _NARROW_OUTPUTS else _WIDE


def invariant_linear(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """See ``hookline.layers.ops.linear``; a row's bits depend on the row and the weight alone."""
    if x_TI.dim() != 2:
        out = invariant_linear(x_TI.reshape(-1, x_TI.shape[-1]), weight_OI, bias_O)
        return out.view(*x_TI.shape[:-1], weight_OI.shape[0])
    if x_TI.stride(-1) != 1:
        x_TI = x_TI.contiguous()
    if weight_OI.stride(-1) != 1:
        weight_OI = weight_OI.contiguous()
    (tokens, width), outputs = x_TI.shape, weight_OI.shape[0]
    out_TO = torch.empty(tokens, outputs, dtype=x_TI.dtype, device=x_TI.device)
    if tokens:
        tile = linear_tile(tokens, outputs, x_TI.dtype)
        grid = (triton.cdiv(outputs, tile.outputs), triton.cdiv(tokens, tile.tokens))
        invariant_linear_kernel[grid](
            x_TI, weight_OI, weight_OI if bias_O is None else bias_O, out_TO, tokens,
            x_TI.stride(0), weight_OI.stride(0), WIDTH=width, OUT=outputs,
            BLOCK_T=tile.tokens, BLOCK_O=tile.outputs, BLOCK_I=tile.inputs, HAS_BIAS=bias_O is not None,
            PRECISION="ieee" if x_TI.dtype is torch.float32 else "tf32",
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
    return out_TO
