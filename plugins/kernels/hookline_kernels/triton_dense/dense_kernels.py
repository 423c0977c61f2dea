"""Matrix-vector kernels: a product of few tokens is bound by reading the weight once.

With programmatic dependent launch a program fetches its first weights while the kernel before it ends, and waits only
then; so the memory does not fall idle between kernels.

Shape letters: T tokens, C input features, O output features.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _normed(
    x_row, residual_row, norm_C, scale, c, mask, HAS_RESIDUAL: tl.constexpr, HAS_NORM: tl.constexpr
):  # fmt: skip
    """A stretch of one token's input as float32: added, normalised and rounded as the separate ops would."""
    x = tl.load(x_row + c, mask=mask, other=0.0)
    if HAS_RESIDUAL:
        residual = tl.load(residual_row + c, mask=mask, other=0.0)
        x = (x.to(tl.float32) + residual.to(tl.float32)).to(x.dtype)
    if HAS_NORM:
        weight = tl.load(norm_C + c, mask=mask, other=0.0)
        x = (x.to(tl.float32) * scale).to(x.dtype) * weight
    return x.to(tl.float32)


@triton.jit
def matvec_kernel(
    x_TC, residual_TC, norm_C, w_OC, bias_O, out_TO, total_TC,
    num_tokens, stride_x, stride_residual, stride_out, eps,
    C: tl.constexpr, OUT: tl.constexpr,
    BLOCK_O: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_ROW: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr, HAS_NORM: tl.constexpr, HAS_BIAS: tl.constexpr, IS_GATED: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """A block of outputs of every token. Grid: (blocks of O,).

    The input of a token is x, or x + residual (written to ``total`` once), or the RMS norm of either. Gated: the
    second half of the weight's rows is the up projection, and the output is silu(gate) * up. Only the first token
    reads weights from memory; they stay in the multiprocessor's cache for the others.
    """
    block = tl.program_id(0)
    o = block * BLOCK_O + tl.arange(0, BLOCK_O)
    c = tl.arange(0, BLOCK_C)
    is_out = o < OUT
    row = w_OC + o[:, None].to(tl.int64) * C
    first_mask = is_out[:, None] & (c[None, :] < C)
    first = tl.load(row + c[None, :], mask=first_mask, other=0.0)
    if IS_GATED:
        first_up = tl.load(row + OUT * C + c[None, :], mask=first_mask, other=0.0)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    for token in tl.range(0, num_tokens):
        x_row = x_TC + token * stride_x
        residual_row = residual_TC + token * stride_residual
        scale = 1.0
        if HAS_NORM:
            h = tl.arange(0, BLOCK_ROW)
            total = tl.load(x_row + h, mask=h < C, other=0.0)
            if HAS_RESIDUAL:
                residual = tl.load(residual_row + h, mask=h < C, other=0.0)
                total = (total.to(tl.float32) + residual.to(tl.float32)).to(total.dtype)
                if block == 0:
                    tl.store(total_TC + token * C + h, total, mask=h < C)
            total32 = total.to(tl.float32)
            scale = tl.rsqrt(tl.sum(total32 * total32, 0) / C + eps)
        x = _normed(x_row, residual_row, norm_C, scale, c, c < C, HAS_RESIDUAL, HAS_NORM)
        acc = first.to(tl.float32) * x[None, :]
        if IS_GATED:
            acc_up = first_up.to(tl.float32) * x[None, :]
        for start in tl.static_range(BLOCK_C, C, BLOCK_C):
            mask = start + c < C
            x = _normed(x_row, residual_row, norm_C, scale, start + c, mask, HAS_RESIDUAL, HAS_NORM)
            w_mask = is_out[:, None] & mask[None, :]
            w = tl.load(row + start + c[None, :], mask=w_mask, other=0.0)
            acc += w.to(tl.float32) * x[None, :]
            if IS_GATED:
                w_up = tl.load(row + OUT * C + start + c[None, :], mask=w_mask, other=0.0)
                acc_up += w_up.to(tl.float32) * x[None, :]
        out = tl.sum(acc, 1)
        if HAS_BIAS:
            out += tl.load(bias_O + o, mask=is_out, other=0.0).to(tl.float32)
        if IS_GATED:
            up = tl.sum(acc_up, 1)
            # Rounded as the separate product would be.
            gate = out.to(out_TO.dtype.element_ty).to(tl.float32)
            out = gate * tl.sigmoid(gate) * up.to(out_TO.dtype.element_ty).to(tl.float32)
        tl.store(out_TO + token * stride_out + o, out.to(out_TO.dtype.element_ty), mask=is_out)
