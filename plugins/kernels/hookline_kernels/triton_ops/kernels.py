"""Kernels over rows: each program reads its rows once and writes them once, and computes in float32.

Shape letters: T tokens, H hidden, N heads, D head dimension, I width, E experts, K experts per token, R rows.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rms_norm_kernel(
    x_RH, weight_NH, out_RH, stride_x_outer, stride_x_inner, num_inner, num_weights, eps,
    H: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """Grid: (R,). Row r is (r // num_inner, r % num_inner) of x, and has weight r % num_weights."""
    row = tl.program_id(0)
    outer = (row // num_inner).to(tl.int64)
    inner = row % num_inner
    h = tl.arange(0, BLOCK_H)
    mask = h < H
    x = tl.load(x_RH + outer * stride_x_outer + inner * stride_x_inner + h, mask=mask, other=0.0).to(tl.float32)
    weight = tl.load(weight_NH + (row % num_weights) * H + h, mask=mask, other=0.0)
    normed = x * tl.rsqrt(tl.sum(x * x, 0) / H + eps)
    dtype = out_RH.dtype.element_ty
    tl.store(out_RH + row.to(tl.int64) * H + h, normed.to(dtype) * weight.to(dtype), mask=mask)


@triton.jit
def add_rms_norm_kernel(
    x_TH, residual_TH, weight_H, out_TH, stride_x, stride_residual, eps,
    H: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """Grid: (T,). The sum goes to ``residual``, its norm to ``out``."""
    row = tl.program_id(0).to(tl.int64)
    h = tl.arange(0, BLOCK_H)
    mask = h < H
    dtype = out_TH.dtype.element_ty
    x = tl.load(x_TH + row * stride_x + h, mask=mask, other=0.0).to(tl.float32)
    residual = tl.load(residual_TH + row * stride_residual + h, mask=mask, other=0.0).to(tl.float32)
    # Rounded as the residual stream is stored, so that the norm is that of what the next layer reads.
    total = (x + residual).to(dtype)
    tl.store(residual_TH + row * stride_residual + h, total, mask=mask)
    total32 = total.to(tl.float32)
    normed = total32 * tl.rsqrt(tl.sum(total32 * total32, 0) / H + eps)
    weight = tl.load(weight_H + h, mask=mask, other=0.0)
    tl.store(out_TH + row * H + h, normed.to(dtype) * weight.to(dtype), mask=mask)


@triton.jit
def silu_and_mul_kernel(x_TI2, out_TI, stride_x, WIDTH: tl.constexpr, BLOCK_I: tl.constexpr):
    """Grid: (T, blocks of I)."""
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    mask = i < WIDTH
    gate = tl.load(x_TI2 + row * stride_x + i, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(x_TI2 + row * stride_x + WIDTH + i, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_TI + row * WIDTH + i, (gate * tl.sigmoid(gate) * up).to(out_TI.dtype.element_ty), mask=mask)


@triton.jit
def rope_kernel(
    qkv_TO, weight_ND, cos_T1D, sin_T1D, out_TND, stride_qkv, stride_cos, stride_sin, eps,
    N: tl.constexpr, D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, HAS_NORM: tl.constexpr,
):  # fmt: skip
    """The query and key heads of a token: an RMS norm each, if they have one, then the rotation.

    Grid: (T, blocks of N). The other half of each pair is read again from cache rather than shuffled.
    """
    token = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    other = (d + D // 2) % D
    mask = (n[:, None] < N) & (d[None, :] < D)
    place = qkv_TO + token * stride_qkv + n[:, None] * D
    x = tl.load(place + d[None, :], mask=mask, other=0.0).to(tl.float32)
    y = tl.load(place + other[None, :], mask=mask, other=0.0).to(tl.float32)
    if HAS_NORM:
        dtype = out_TND.dtype.element_ty
        scale = tl.rsqrt(tl.sum(x * x, 1) / D + eps)[:, None]
        weight = tl.load(weight_ND + n[:, None] * D + d[None, :], mask=mask, other=0.0)
        weight_other = tl.load(weight_ND + n[:, None] * D + other[None, :], mask=mask, other=0.0)
        x = ((x * scale).to(dtype) * weight.to(dtype)).to(tl.float32)
        y = ((y * scale).to(dtype) * weight_other.to(dtype)).to(tl.float32)
    cos = tl.load(cos_T1D + token * stride_cos + d, mask=d < D, other=0.0).to(tl.float32)
    sin = tl.load(sin_T1D + token * stride_sin + d, mask=d < D, other=0.0).to(tl.float32)
    turned = x * cos[None, :] + y * sin[None, :]
    tl.store(out_TND + (token * N + n[:, None]) * D + d[None, :], turned.to(out_TND.dtype.element_ty), mask=mask)


@triton.jit
def rope_store_kernel(
    qkv_TO, weight_ND, cos_T1D, sin_T1D, k_plane, v_plane, loc_T,
    num_tokens, stride_qkv, stride_cos, stride_sin, stride_loc,
    stride_k_slot, stride_k_head, stride_v_slot, stride_v_head, eps,
    NUM_Q: tl.constexpr, NUM_KV: tl.constexpr, D: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_HALF: tl.constexpr, HAS_NORM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Heads of a token in place: an RMS norm of each query and key head, if they have one, and the rotation; keys and
    values also go to their slot.

    Grid: (T, blocks of all heads). A thread has both elements of its pairs, so that none is read after it was
    written.
    """
    token = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_HALF)
    half: tl.constexpr = D // 2
    in_head = d[None, :] < half
    mask = (n[:, None] < NUM_Q + 2 * NUM_KV) & in_head
    is_turned = n[:, None] < NUM_Q + NUM_KV
    if HAS_NORM:
        norm_mask = is_turned & in_head
        weight_low = tl.load(weight_ND + n[:, None] * D + d[None, :], mask=norm_mask, other=1.0)
        weight_high = tl.load(weight_ND + n[:, None] * D + half + d[None, :], mask=norm_mask, other=1.0)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    place = qkv_TO + token * stride_qkv + n[:, None] * D + d[None, :]
    raw_low = tl.load(place, mask=mask, other=0.0)
    raw_high = tl.load(place + half, mask=mask, other=0.0)
    dtype = raw_low.dtype
    low, high = raw_low.to(tl.float32), raw_high.to(tl.float32)
    if HAS_NORM:
        scale = tl.rsqrt((tl.sum(low * low, 1) + tl.sum(high * high, 1)) / D + eps)[:, None]
        low = ((low * scale).to(dtype) * weight_low.to(dtype)).to(tl.float32)
        high = ((high * scale).to(dtype) * weight_high.to(dtype)).to(tl.float32)
    # Cosines come twice, sines negated and then plain.
    cos = tl.load(cos_T1D + token * stride_cos + d, mask=d < half, other=0.0).to(tl.float32)
    sin = tl.load(sin_T1D + token * stride_sin + half + d, mask=d < half, other=0.0).to(tl.float32)
    out_low = tl.where(is_turned, (low * cos[None, :] - high * sin[None, :]).to(dtype), raw_low)
    out_high = tl.where(is_turned, (high * cos[None, :] + low * sin[None, :]).to(dtype), raw_high)
    tl.store(place, out_low, mask=mask & is_turned)
    tl.store(place + half, out_high, mask=mask & is_turned)
    slot = tl.load(loc_T + token * stride_loc).to(tl.int64)
    k_mask = (n[:, None] >= NUM_Q) & is_turned & in_head
    k_place = k_plane + slot * stride_k_slot + (n[:, None] - NUM_Q) * stride_k_head + d[None, :]
    tl.store(k_place, out_low.to(k_plane.dtype.element_ty), mask=k_mask)
    tl.store(k_place + half, out_high.to(k_plane.dtype.element_ty), mask=k_mask)
    v_mask = mask & (n[:, None] >= NUM_Q + NUM_KV)
    v_place = v_plane + slot * stride_v_slot + (n[:, None] - NUM_Q - NUM_KV) * stride_v_head + d[None, :]
    tl.store(v_place, raw_low.to(v_plane.dtype.element_ty), mask=v_mask)
    tl.store(v_place + half, raw_high.to(v_plane.dtype.element_ty), mask=v_mask)


@triton.jit
def topk_softmax_kernel(
    logits_TE, weights_TK, ids_TK, stride_logits,
    E: tl.constexpr, K: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_K: tl.constexpr, RENORMALIZE: tl.constexpr,
):  # fmt: skip
    """Grid: (T,). The largest is taken K times; of equal ones the first."""
    token = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, BLOCK_E)
    k = tl.arange(0, BLOCK_K)
    logits = tl.load(logits_TE + token * stride_logits + e, mask=e < E, other=float("-inf")).to(tl.float32)
    peak = tl.max(logits, 0)
    exps = tl.exp(logits - peak)
    weights = tl.zeros([BLOCK_K], dtype=tl.float32)
    ids = tl.zeros([BLOCK_K], dtype=tl.int32)
    # Chosen by logits: small exponentials are all zero.
    left = e < E
    for choice in tl.static_range(K):
        best = tl.max(tl.where(left, logits, float("-inf")), 0)
        # What is not a number compares with nothing; the token still gets experts that exist.
        expert = tl.min(tl.where(left & ((logits == best) | (logits != logits)), e, E - 1), 0)
        weights = tl.where(k == choice, tl.exp(best - peak), weights)
        ids = tl.where(k == choice, expert, ids)
        left = left & (e != expert)
    total = tl.sum(weights, 0) if RENORMALIZE else tl.sum(exps, 0)
    tl.store(weights_TK + token * K + k, weights / total, mask=k < K)
    tl.store(ids_TK + token * K + k, ids.to(tl.int64), mask=k < K)
