"""The kernel of plain prefills: causal or full masks, no window, no tree.

New keys are read where the projection left them, in order; only those of the prefix go through the table of slots.
Blocks that a tile sees whole need no mask, which is all but the last few.

Shape letters: B requests, T tokens, N query heads, K key-value heads, G = N / K, D head dimension.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hookline_attention.triton_attention.kernels import LOG2E, gather


@triton.jit
def _step(
    q, k, v, seen, peak, total, acc, scale_log2, scale, softcap,
    HAS_SOFTCAP: tl.constexpr, IS_MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of keys: new (peak, total, acc). Peaks are in base 2, with the scale."""
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    factor = scale_log2
    if HAS_SOFTCAP:
        scores = softcap * (2.0 * tl.sigmoid(2.0 * (scores * scale) / softcap) - 1.0)
        factor = LOG2E
    if IS_MASKED:
        scores = tl.where(seen, scores, float("-inf"))
    # The scale is positive, so the largest score is the largest scaled one, and scaling costs no pass of its own.
    new_peak = tl.maximum(peak, tl.max(scores, 1) * factor)
    safe_peak = new_peak
    if IS_MASKED:
        # Rows beyond the request see nothing at all, and -inf must not meet -inf in a subtraction.
        safe_peak = tl.where(new_peak == float("-inf"), 0.0, new_peak)
    decay = tl.exp2(peak - safe_peak)
    weights = tl.exp2(scores * factor - safe_peak[:, None])
    total = total * decay + tl.sum(weights, 1)
    acc = acc * decay[:, None]
    acc = tl.dot(weights.to(v.dtype), v, acc, input_precision=PRECISION)
    return new_peak, total, acc


@triton.jit
def prefill_kernel(
    q_TND, k_TKD, v_TKD, k_plane, v_plane, table_RC, rows_B, seq_lens_B, prefix_lens_B, starts_B, sinks_N, out_TND,
    scale, softcap,
    stride_q_t, stride_q_n, stride_k_t, stride_k_n, stride_v_t, stride_v_n,
    stride_k_slot, stride_k_head, stride_v_slot, stride_v_head, stride_table, stride_out_t, stride_out_n,
    HAS_SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr, IS_CAUSAL: tl.constexpr,
    G: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of a request's new tokens, times the query heads of one key-value head.

    Grid: (tiles of the longest request, K, B); later tiles, which see more keys, come first.
    """
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    kv_head = tl.program_id(1)
    request = tl.program_id(2)
    prefix = tl.load(prefix_lens_B + request).to(tl.int32)
    num_new = tl.load(seq_lens_B + request).to(tl.int32) - prefix
    if tile * BLOCK_M >= num_new * G:
        return
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    new = row // G
    head = kv_head * G + row % G
    is_row = new < num_new
    begin = tl.load(starts_B + request).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    dv = tl.arange(0, BLOCK_DV)
    q = tl.load(
        q_TND + (begin + new)[:, None] * stride_q_t + head[:, None] * stride_q_n + d[None, :],
        mask=is_row[:, None] & (d[None, :] < D),
        other=0.0,
    )
    scale_log2 = scale * LOG2E
    peak = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_DV], dtype=tl.float32)
    if HAS_SINKS:
        # A sink is a key without a value.
        peak = tl.load(sinks_N + head).to(tl.float32) * LOG2E
        total += 1.0
    key = tl.arange(0, BLOCK_L)

    # The prefix, through the table.
    table = table_RC + tl.load(rows_B + request).to(tl.int64) * stride_table
    k_head = k_plane + kv_head * stride_k_head
    v_head = v_plane + kv_head * stride_v_head
    whole = prefix // BLOCK_L * BLOCK_L
    for start in tl.range(0, whole, BLOCK_L):
        slot = tl.load(table + start + key).to(tl.int64)
        k = tl.load(k_head + slot[:, None] * stride_k_slot + d[None, :], mask=d[None, :] < D, other=0.0).to(q.dtype)
        v = tl.load(v_head + slot[:, None] * stride_v_slot + dv[None, :], mask=dv[None, :] < DV, other=0.0).to(q.dtype)
        peak, total, acc = _step(
            q, k, v, True, peak, total, acc, scale_log2, scale, softcap, HAS_SOFTCAP, False, PRECISION
        )
    if whole < prefix:
        is_key = whole + key < prefix
        slot = tl.load(table + whole + key, mask=is_key, other=0).to(tl.int64)
        k = gather(k_plane, slot, is_key, kv_head, stride_k_slot, stride_k_head, d, D).to(q.dtype)
        v = gather(v_plane, slot, is_key, kv_head, stride_v_slot, stride_v_head, dv, DV).to(q.dtype)
        peak, total, acc = _step(
            q, k, v, is_key[None, :], peak, total, acc, scale_log2, scale, softcap, HAS_SOFTCAP, True, PRECISION
        )

    # The new tokens, in place.
    k_new = k_TKD + begin * stride_k_t + kv_head * stride_k_n
    v_new = v_TKD + begin * stride_v_t + kv_head * stride_v_n
    end = num_new
    unmasked = num_new // BLOCK_L * BLOCK_L
    if IS_CAUSAL:
        end = tl.minimum((tile * BLOCK_M + BLOCK_M - 1) // G + 1, num_new)
        unmasked = tl.minimum((tile * BLOCK_M // G + 1) // BLOCK_L * BLOCK_L, unmasked)
    for start in tl.range(0, unmasked, BLOCK_L):
        place = (start + key)[:, None]
        k = tl.load(k_new + place * stride_k_t + d[None, :], mask=d[None, :] < D, other=0.0).to(q.dtype)
        v = tl.load(v_new + place * stride_v_t + dv[None, :], mask=dv[None, :] < DV, other=0.0).to(q.dtype)
        peak, total, acc = _step(
            q, k, v, True, peak, total, acc, scale_log2, scale, softcap, HAS_SOFTCAP, False, PRECISION
        )
    for start in tl.range(unmasked, end, BLOCK_L):
        is_key = start + key < num_new
        place = (start + key)[:, None]
        k = tl.load(k_new + place * stride_k_t + d[None, :], mask=is_key[:, None] & (d[None, :] < D), other=0.0)
        v = tl.load(v_new + place * stride_v_t + dv[None, :], mask=is_key[:, None] & (dv[None, :] < DV), other=0.0)
        seen = is_key[None, :] & is_row[:, None]
        if IS_CAUSAL:
            seen = seen & ((start + key)[None, :] <= new[:, None])
        peak, total, acc = _step(
            q, k.to(q.dtype), v.to(q.dtype), seen, peak, total, acc, scale_log2, scale, softcap,
            HAS_SOFTCAP, True, PRECISION,
        )  # fmt: skip
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    place_out = out_TND + (begin + new)[:, None] * stride_out_t + head[:, None] * stride_out_n + dv[None, :]
    tl.store(place_out, out.to(out_TND.dtype.element_ty), mask=is_row[:, None] & (dv[None, :] < DV))
