"""The batch-invariant product. Shape letters as in ``hookline.layers.ops``."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def invariant_linear_kernel(
    x_TI, weight_OI, bias_O, out_TO, tokens, stride_x, stride_weight,
    WIDTH: tl.constexpr, OUT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_I: tl.constexpr,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of the product. Grid: (blocks of O, blocks of T).

    Every element is one sum over the inputs from the first to the last, in one accumulator: nothing about it
    depends on the other rows or on how many there are.
    """
    t = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    o = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    x_rows = x_TI + t[:, None].to(tl.int64) * stride_x
    weight_rows = weight_OI + o[None, :].to(tl.int64) * stride_weight
    total = tl.zeros([BLOCK_T, BLOCK_O], dtype=tl.float32)
    for start in tl.range(0, WIDTH, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)
        x = tl.load(x_rows + i[None, :], mask=(t < tokens)[:, None] & (i < WIDTH)[None, :], other=0.0)
        weight = tl.load(weight_rows + i[:, None], mask=(o < OUT)[None, :] & (i < WIDTH)[:, None], other=0.0)
        total = tl.dot(x, weight, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias_O + o, mask=o < OUT, other=0.0).to(tl.float32)[None, :]
    place = out_TO + t[:, None].to(tl.int64) * OUT + o[None, :]
    tl.store(place, total.to(out_TO.dtype.element_ty), mask=(t < tokens)[:, None] & (o < OUT)[None, :])
