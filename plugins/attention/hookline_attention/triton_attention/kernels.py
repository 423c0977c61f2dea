"""What all attention kernels share, and the extend kernel that knows every mask.

Keys and values are read through the table of slots, so this kernel neither knows pages nor which keys are new.
The query heads of one key-value head are packed into the rows of one tile: keys are read once for all of them.
Softmax runs online in base 2; a row that sees no key gives zero.

Shape letters: B requests, T tokens, N query heads, K key-value heads, G = N / K, D head dimension.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def gather(plane, slot, is_key, kv_head, stride_slot, stride_head, d, D: tl.constexpr):
    """One head's keys or values at the slots, zeros where there is no key."""
    place = plane + slot[:, None] * stride_slot + kv_head * stride_head + d[None, :]
    return tl.load(place, mask=is_key[:, None] & (d[None, :] < D), other=0.0)


@triton.jit
def scores_of(q, k, scale, softcap, HAS_SOFTCAP: tl.constexpr, PRECISION: tl.constexpr):
    """Scores of a tile in base 2."""
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    if HAS_SOFTCAP:
        # tanh by a sigmoid, which every version of Triton has.
        scores = softcap * (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0)
    return scores * LOG2E


@triton.jit
def online(scores, v, peak, total, acc, PRECISION: tl.constexpr):
    """One step of the online softmax: new (peak, total, acc)."""
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    # Rows that have seen nothing keep a peak of -inf, which must not meet another one in a subtraction.
    safe_peak = tl.where(new_peak == float("-inf"), 0.0, new_peak)
    decay = tl.exp2(peak - safe_peak)
    weights = tl.exp2(scores - safe_peak[:, None])
    total = total * decay + tl.sum(weights, 1)
    acc = acc * decay[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
    return new_peak, total, acc


@triton.jit
def extend_kernel(
    q_TND, k_plane, v_plane, table_RC, rows_B, seq_lens_B, prefix_lens_B, starts_B, tree_TX, sinks_N, out_TND,
    scale, softcap,
    stride_q_t, stride_q_n, stride_k_slot, stride_k_head, stride_v_slot, stride_v_head, stride_table,
    stride_tree, stride_out_t, stride_out_n,
    WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_SINKS: tl.constexpr,
    IS_CAUSAL: tl.constexpr, HAS_TREE: tl.constexpr,
    G: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of a request's new tokens, times the query heads of one key-value head, against the keys that
    they see. Grid: (tiles of the longest request, K, B); later tiles, which see more keys, come first."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    kv_head = tl.program_id(1)
    request = tl.program_id(2)
    seq_len = tl.load(seq_lens_B + request).to(tl.int32)
    prefix = tl.load(prefix_lens_B + request).to(tl.int32)
    num_new = seq_len - prefix
    if tile * BLOCK_M >= num_new * G:
        return
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    new = row // G
    head = kv_head * G + row % G
    is_row = new < num_new
    token = tl.load(starts_B + request).to(tl.int64) + new
    position = prefix + new
    d = tl.arange(0, BLOCK_D)
    dv = tl.arange(0, BLOCK_DV)
    q = tl.load(
        q_TND + token[:, None] * stride_q_t + head[:, None] * stride_q_n + d[None, :],
        mask=is_row[:, None] & (d[None, :] < D),
        other=0.0,
    )
    first_new = tile * BLOCK_M // G
    last_new = tl.minimum((tile * BLOCK_M + BLOCK_M - 1) // G, num_new - 1)
    end = seq_len
    if IS_CAUSAL and not HAS_TREE:
        end = prefix + last_new + 1
    begin = 0
    if WINDOW > 0:
        # Blocks start at multiples of their length whatever the window, so that sums do not depend on the tile.
        begin = tl.maximum(prefix + first_new - WINDOW + 1, 0) // BLOCK_L * BLOCK_L
    peak = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_DV], dtype=tl.float32)
    if HAS_SINKS:
        # A sink is a key without a value.
        peak = tl.load(sinks_N + head).to(tl.float32) * LOG2E
        total += 1.0
    table = table_RC + tl.load(rows_B + request).to(tl.int64) * stride_table
    for start in tl.range(begin, end, BLOCK_L):
        key = start + tl.arange(0, BLOCK_L)
        is_key = key < seq_len
        slot = tl.load(table + key, mask=is_key, other=0).to(tl.int64)
        k = gather(k_plane, slot, is_key, kv_head, stride_k_slot, stride_k_head, d, D).to(q.dtype)
        v = gather(v_plane, slot, is_key, kv_head, stride_v_slot, stride_v_head, dv, DV).to(q.dtype)
        seen = is_key[None, :] & is_row[:, None]
        if HAS_TREE:
            allowed = tl.load(
                tree_TX + token[:, None] * stride_tree + (key[None, :] - prefix),
                mask=seen & (key[None, :] >= prefix),
                other=1,
            )
            seen = seen & (allowed != 0)
        elif IS_CAUSAL:
            seen = seen & (key[None, :] <= position[:, None])
        if WINDOW > 0:
            seen = seen & (key[None, :] > position[:, None] - WINDOW)
        scores = scores_of(q, k, scale, softcap, HAS_SOFTCAP, PRECISION)
        scores = tl.where(seen, scores, float("-inf"))
        peak, total, acc = online(scores, v, peak, total, acc, PRECISION)
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    place = out_TND + token[:, None] * stride_out_t + head[:, None] * stride_out_n + dv[None, :]
    tl.store(place, out.to(out_TND.dtype.element_ty), mask=is_row[:, None] & (dv[None, :] < DV))
