"""The kernels of the experts.

Shape letters: T tokens, H hidden, I expert width, J = 2I (gate, then up), E experts, K experts per token,
P = T * K pairs of a token and one of its experts, in the order of the ids; M rows of a tile.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def few_up_kernel(
    x_TH, w13_EJH, ids_P, hidden_PI, stride_x, stride_expert,
    H: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """A block of silu(gate) * up of one pair. Grid: (P, blocks of I). No matrix unit: the weights are read once."""
    pair = tl.program_id(0)
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    expert = tl.load(ids_P + pair).to(tl.int64)
    if expert < 0:
        return
    token = (pair // K).to(tl.int64)
    gate = tl.zeros([BLOCK_I], dtype=tl.float32)
    up = tl.zeros([BLOCK_I], dtype=tl.float32)
    weights = w13_EJH + expert * stride_expert
    for start in tl.range(0, H, BLOCK_H):
        h = start + tl.arange(0, BLOCK_H)
        x = tl.load(x_TH + token * stride_x + h, mask=h < H, other=0.0).to(tl.float32)
        mask = (i[:, None] < WIDTH) & (h[None, :] < H)
        w_gate = tl.load(weights + i[:, None] * H + h[None, :], mask=mask, other=0.0).to(tl.float32)
        w_up = tl.load(weights + (i[:, None] + WIDTH) * H + h[None, :], mask=mask, other=0.0).to(tl.float32)
        gate += tl.sum(w_gate * x[None, :], 1)
        up += tl.sum(w_up * x[None, :], 1)
    hidden = gate * tl.sigmoid(gate) * up
    tl.store(hidden_PI + pair.to(tl.int64) * WIDTH + i, hidden.to(hidden_PI.dtype.element_ty), mask=i < WIDTH)


@triton.jit
def few_down_kernel(
    hidden_PI, w2_EHI, weights_P, ids_P, out_TH, stride_expert,
    H: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_I: tl.constexpr,
):  # fmt: skip
    """A block of one token's output, summed over its experts in their order. Grid: (T, blocks of H)."""
    token = tl.program_id(0)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    total = tl.zeros([BLOCK_H], dtype=tl.float32)
    for choice in tl.range(0, K):
        pair = token * K + choice
        expert = tl.load(ids_P + pair).to(tl.int64)
        if expert >= 0:
            part = tl.zeros([BLOCK_H], dtype=tl.float32)
            for start in tl.range(0, WIDTH, BLOCK_I):
                i = start + tl.arange(0, BLOCK_I)
                x = tl.load(hidden_PI + pair.to(tl.int64) * WIDTH + i, mask=i < WIDTH, other=0.0).to(tl.float32)
                mask = (h[:, None] < H) & (i[None, :] < WIDTH)
                place = w2_EHI + expert * stride_expert + h[:, None] * WIDTH + i[None, :]
                part += tl.sum(tl.load(place, mask=mask, other=0.0).to(tl.float32) * x[None, :], 1)
            total += part * tl.load(weights_P + pair)
    tl.store(out_TH + token.to(tl.int64) * H + h, total.to(out_TH.dtype.element_ty), mask=h < H)


@triton.jit
def grouped_kernel(
    x_RC, w_EOC, order_P, begins_E, counts_E, tiles_E, weights_P, out_PO,
    stride_x, stride_expert,
    C: tl.constexpr, OUT: tl.constexpr, E: tl.constexpr, K: tl.constexpr, BLOCK_E: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_C: tl.constexpr,
    IS_UP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of one expert's product. Grid: (tiles of rows at most, blocks of O).

    ``tiles_E`` says at which tile each expert ends, so that a program finds its expert without the host knowing.
    The up product reads token rows, computes gate and up of a block of columns and writes silu(gate) * up in sorted
    order; the down product reads those, scales by the routing weight, and writes at each pair's own place.
    """
    tile = tl.program_id(0)
    e = tl.arange(0, BLOCK_E)
    ends = tl.load(tiles_E + e, mask=e < E, other=2147483647)
    expert = tl.sum((ends <= tile).to(tl.int32), 0)
    if expert >= E:
        return
    first_tile = tl.max(tl.where(ends <= tile, ends, 0), 0)
    count = tl.load(counts_E + expert)
    begin = tl.load(begins_E + expert)
    m = (tile - first_tile) * BLOCK_M + tl.arange(0, BLOCK_M)
    is_row = m < count
    pair = tl.load(order_P + begin + m, mask=is_row, other=0)
    o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    is_out = o < OUT
    row = pair // K if IS_UP else (begin + m).to(tl.int64)
    weights = w_EOC + expert.to(tl.int64) * stride_expert
    acc = tl.zeros([BLOCK_M, BLOCK_O], dtype=tl.float32)
    acc_up = tl.zeros([BLOCK_M, BLOCK_O], dtype=tl.float32)
    for start in tl.range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        x = tl.load(
            x_RC + row[:, None].to(tl.int64) * stride_x + c[None, :],
            mask=is_row[:, None] & (c[None, :] < C),
            other=0.0,
        )
        mask = is_out[None, :] & (c[:, None] < C)
        w = tl.load(weights + o[None, :] * C + c[:, None], mask=mask, other=0.0)
        acc = tl.dot(x, w, acc, input_precision=PRECISION)
        if IS_UP:
            w_up = tl.load(weights + (o[None, :] + OUT) * C + c[:, None], mask=mask, other=0.0)
            acc_up = tl.dot(x, w_up, acc_up, input_precision=PRECISION)
    dtype = out_PO.dtype.element_ty
    is_stored = is_row[:, None] & is_out[None, :]
    if IS_UP:
        out = acc * tl.sigmoid(acc) * acc_up
        tl.store(out_PO + (begin + m)[:, None].to(tl.int64) * OUT + o[None, :], out.to(dtype), mask=is_stored)
    else:
        scale = tl.load(weights_P + pair, mask=is_row, other=0.0)
        out = acc * scale[:, None]
        tl.store(out_PO + pair[:, None].to(tl.int64) * OUT + o[None, :], out.to(dtype), mask=is_stored)


@triton.jit
def sum_kernel(
    parts_PH, ids_P, out_TH,
    H: tl.constexpr, K: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """The sum over each token's experts, in their order, so that it does not depend on the batch.
    Grid: (T, blocks of H)."""
    token = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    total = tl.zeros([BLOCK_H], dtype=tl.float32)
    for choice in tl.range(0, K):
        pair = token * K + choice
        if tl.load(ids_P + pair) >= 0:
            total += tl.load(parts_PH + pair * H + h, mask=h < H, other=0.0).to(tl.float32)
    tl.store(out_TH + token * H + h, total.to(out_TH.dtype.element_ty), mask=h < H)
