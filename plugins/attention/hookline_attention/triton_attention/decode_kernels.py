"""The kernels of a decode: cut all keys of the pass into even items of work, attend, merge.

An item is a stretch of one request's keys. All are equally long but for the last of each request, and there are as
many as fill the device, however uneven the requests are. The cut is made on the device from the lengths that it
knows, once for all layers, so a captured pass replays with any lengths.

Shape letters: B requests, N query heads, K key-value heads, G = N / K, D head dimension, W items.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hookline_attention.triton_attention.kernels import LOG2E, gather, online, scores_of


@triton.jit
def items_kernel(
    seq_lens_B, request_W, begin_B, count_B, length_1, num_requests, num_items, target,
    UNIT: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Which request each item belongs to (-1: none), and of each request the first item and how many.

    Grid: (blocks of W). ``length_1`` gets the keys of an item, the least multiple of UNIT at which about ``target``
    items hold all keys.
    """
    b = tl.arange(0, BLOCK_B)
    units = tl.cdiv(tl.load(seq_lens_B + b, mask=b < num_requests, other=0).to(tl.int32), UNIT)
    length = tl.maximum(tl.cdiv(tl.sum(units, 0), target), 1)
    counts = tl.cdiv(units, length)
    ends = tl.cumsum(counts, 0)
    w = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    request = tl.sum(((ends[None, :] <= w[:, None]) & (b[None, :] < num_requests)).to(tl.int32), 1)
    tl.store(request_W + w, tl.where(request < num_requests, request, -1), mask=w < num_items)
    if tl.program_id(0) == 0:
        tl.store(begin_B + b, ends - counts, mask=b < num_requests)
        tl.store(count_B + b, counts, mask=b < num_requests)
        tl.store(length_1, length * UNIT)


@triton.jit
def decode_kernel(
    q_TND, k_plane, v_plane, table_RC, rows_B, seq_lens_B, request_W, begin_B, count_B, length_1, sinks_N,
    out_TND, part_WND, part_lse_WN,
    scale, softcap,
    stride_q_t, stride_q_n, stride_k_slot, stride_k_head, stride_v_slot, stride_v_head, stride_table,
    stride_out_t, stride_out_n,
    WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr,
    G: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    PRECISION: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One query token of a request against one item of its keys. Grid: (K, W), so that the heads of one token, which
    lie side by side, are read at about the same time."""
    kv_head = tl.program_id(0)
    item = tl.program_id(1)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    request = tl.load(request_W + item)
    if request < 0:
        return
    seq_len = tl.load(seq_lens_B + request).to(tl.int32)
    part = item - tl.load(begin_B + request)
    length = tl.load(length_1)
    begin = part * length
    end = tl.minimum(begin + length, seq_len)
    if WINDOW > 0:
        begin = tl.maximum(begin, seq_len - WINDOW)

    g = tl.arange(0, BLOCK_G)
    d = tl.arange(0, BLOCK_D)
    dv = tl.arange(0, BLOCK_DV)
    head = kv_head * G + g
    q = tl.load(
        q_TND + request.to(tl.int64) * stride_q_t + head[:, None] * stride_q_n + d[None, :],
        mask=(g[:, None] < G) & (d[None, :] < D),
        other=0.0,
    )
    peak = tl.full([BLOCK_G], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_G], dtype=tl.float32)
    acc = tl.zeros([BLOCK_G, BLOCK_DV], dtype=tl.float32)
    if HAS_SINKS:
        # A sink is a key without a value; the first part has it.
        sink = tl.load(sinks_N + head, mask=g < G, other=0.0).to(tl.float32) * LOG2E
        peak = tl.where(part == 0, sink, peak)
        total = tl.where(part == 0, total + 1.0, total)
    table = table_RC + tl.load(rows_B + request).to(tl.int64) * stride_table
    for start in tl.range(begin, end, BLOCK_L):
        key = start + tl.arange(0, BLOCK_L)
        is_key = key < end
        slot = tl.load(table + key, mask=is_key, other=0).to(tl.int64)
        k = gather(k_plane, slot, is_key, kv_head, stride_k_slot, stride_k_head, d, D).to(q.dtype)
        v = gather(v_plane, slot, is_key, kv_head, stride_v_slot, stride_v_head, dv, DV).to(q.dtype)
        scores = scores_of(q, k, scale, softcap, HAS_SOFTCAP, PRECISION)
        scores = tl.where(is_key[None, :], scores, float("-inf"))
        peak, total, acc = online(scores, v, peak, total, acc, PRECISION)
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    is_out = (g[:, None] < G) & (dv[None, :] < DV)
    if tl.load(count_B + request) == 1:
        place_out = out_TND + request.to(tl.int64) * stride_out_t + head[:, None] * stride_out_n + dv[None, :]
        tl.store(place_out, out.to(out_TND.dtype.element_ty), mask=is_out)
    else:
        place = item.to(tl.int64) * tl.num_programs(0) * G + head
        tl.store(part_WND + place[:, None] * DV + dv[None, :], out, mask=is_out)
        lse = tl.where(total == 0.0, float("-inf"), peak + tl.log2(tl.where(total == 0.0, 1.0, total)))
        tl.store(part_lse_WN + place, lse, mask=g < G)


@triton.jit
def merge_kernel(
    part_WND, part_lse_WN, begin_B, count_B, out_TND, stride_out_t, stride_out_n,
    DV: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_S: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """The parts of one head of one request, weighted by their sums of exponentials. Grid: (B, N)."""
    request = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    num_heads = tl.num_programs(1)
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    count = tl.load(count_B + request)
    if count == 1:
        return
    begin = tl.load(begin_B + request).to(tl.int64)
    dv = tl.arange(0, BLOCK_DV)
    peak = float("-inf")
    total = 0.0
    acc = tl.zeros([BLOCK_DV], dtype=tl.float32)
    for start in tl.range(0, count, BLOCK_S):
        s = start + tl.arange(0, BLOCK_S)
        place = (begin + s) * num_heads + head
        lse = tl.load(part_lse_WN + place, mask=s < count, other=float("-inf"))
        parts = tl.load(
            part_WND + place[:, None] * DV + dv[None, :],
            mask=(s[:, None] < count) & (dv[None, :] < DV),
            other=0.0,
        )
        new_peak = tl.maximum(peak, tl.max(lse, 0))
        safe_peak = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        decay = tl.exp2(peak - safe_peak)
        weight = tl.exp2(lse - safe_peak)
        total = total * decay + tl.sum(weight, 0)
        acc = acc * decay + tl.sum(parts * weight[:, None], 0)
        peak = new_peak
    out = acc / tl.where(total == 0.0, 1.0, total)
    place_out = out_TND + request * stride_out_t + head * stride_out_n + dv
    tl.store(place_out, out.to(out_TND.dtype.element_ty), mask=dv < DV)
