"""The kernels of the experts.

Shape letters: T tokens, H hidden, I expert width, J = 2I (gate, then up), E experts, K experts per token,
P = T * K pairs of a token and one of its experts, in the order of the ids; S segments of pairs; M rows of a tile.

With ``PDL`` a kernel may start while the one before it in the stream still runs: it waits before it reads what
others wrote, and lets its own successor start.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def route_kernel(
    x_TH, residual_TH, norm_H, router_EH, normed_TH, total_TH, logits_TE, stride_x, stride_residual, eps,
    H: tl.constexpr, E: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_H: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """The residual sum, its RMS norm, and the router's logits of a block of experts. Grid: (T, blocks of E).

    Every program norms the token for itself; the first one of a token stores what it got.
    """
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    e = block * BLOCK_E + tl.arange(0, BLOCK_E)
    h = tl.arange(0, BLOCK_H)
    is_h = h < H
    router = tl.load(router_EH + e[:, None] * H + h[None, :], mask=(e < E)[:, None] & is_h[None, :], other=0.0)
    norm = tl.load(norm_H + h, mask=is_h, other=0.0)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.load(x_TH + token * stride_x + h, mask=is_h, other=0.0)
    if HAS_RESIDUAL:
        total += tl.load(residual_TH + token * stride_residual + h, mask=is_h, other=0.0)
    total32 = total.to(tl.float32)
    scale = tl.rsqrt(tl.sum(total32 * total32, 0) / H + eps)
    normed = (total32 * scale).to(total.dtype) * norm
    logits = tl.sum(router.to(tl.float32) * normed.to(tl.float32)[None, :], 1)
    tl.store(logits_TE + token * E + e, logits.to(logits_TE.dtype.element_ty), mask=e < E)
    if block == 0:
        tl.store(normed_TH + token * H + h, normed, mask=is_h)
        if HAS_RESIDUAL:
            tl.store(total_TH + token * H + h, total, mask=is_h)


@triton.jit
def topk_kernel(
    logits_TE, weights_TK, ids_TK, stride_logits,
    E: tl.constexpr, K: tl.constexpr, BLOCK_E: tl.constexpr, RENORMALIZE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Softmax over the experts and the K largest, all places found at once. Grid: (T,). Of equal ones the first."""
    token = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, BLOCK_E)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    logits = tl.load(logits_TE + token * stride_logits + e, mask=e < E, other=float("-inf")).to(tl.float32)
    # What is not a number counts as the largest, so that the token still gets experts that exist.
    keys = tl.where(logits == logits, logits, float("inf"))
    first = e[None, :] < e[:, None]
    before = (keys[None, :] > keys[:, None]) | ((keys[None, :] == keys[:, None]) & first)
    place = tl.sum(before.to(tl.int32), 1)
    exps = tl.exp(logits - tl.max(logits, 0))
    chosen = place < K
    total = tl.sum(tl.where(chosen | (not RENORMALIZE), exps, 0.0), 0)
    tl.store(weights_TK + token * K + place, exps / total, mask=chosen)
    tl.store(ids_TK + token * K + place, e.to(tl.int64), mask=chosen)


@triton.jit
def few_up_kernel(
    x_TH, w13_EJH, ids_P, hidden_PI, stride_x, stride_expert,
    H: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_H: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """A block of silu(gate) * up of one pair. Grid: (P, blocks of I). No matrix unit: the weights are read once."""
    pair = tl.program_id(0)
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    expert = tl.load(ids_P + pair).to(tl.int64)
    if expert < 0:
        return
    token = (pair // K).to(tl.int64)
    gate = tl.zeros([BLOCK_I, BLOCK_H], dtype=tl.float32)
    up = tl.zeros([BLOCK_I, BLOCK_H], dtype=tl.float32)
    weights = w13_EJH + expert * stride_expert
    # Reduced once, at the end: a reduction in between would keep the next loads from being in flight.
    for start in tl.static_range(0, H, BLOCK_H):
        h = start + tl.arange(0, BLOCK_H)
        mask = (i[:, None] < WIDTH) & (h[None, :] < H)
        w_gate = tl.load(weights + i[:, None] * H + h[None, :], mask=mask, other=0.0)
        w_up = tl.load(weights + (i[:, None] + WIDTH) * H + h[None, :], mask=mask, other=0.0)
        # Behind a barrier, so that the assembler cannot begin to multiply before all weights are on their way: it
        # would, to save registers.
        tl.debug_barrier()
        x = tl.load(x_TH + token * stride_x + h, mask=h < H, other=0.0).to(tl.float32)
        gate += w_gate.to(tl.float32) * x[None, :]
        up += w_up.to(tl.float32) * x[None, :]
    gate_I = tl.sum(gate, 1)
    hidden = gate_I * tl.sigmoid(gate_I) * tl.sum(up, 1)
    tl.store(hidden_PI + pair.to(tl.int64) * WIDTH + i, hidden.to(hidden_PI.dtype.element_ty), mask=i < WIDTH)


@triton.jit
def few_down_kernel(
    hidden_PI, w2_EHI, weights_P, ids_P, out_TH, stride_expert,
    H: tl.constexpr, WIDTH: tl.constexpr, K: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_I: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """A block of one token's output, summed over its experts at once. Grid: (T, blocks of H).

    ``ids_P`` was written before the kernel that this one may overlap with, so that the weights are on their way
    before the hidden values are there.
    """
    token = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    k = tl.arange(0, BLOCK_K)
    expert = tl.load(ids_P + token * K + k, mask=k < K, other=-1).to(tl.int64)
    is_pair = expert >= 0
    rows = w2_EHI + expert[None, :, None] * stride_expert + h[:, None, None] * WIDTH
    is_row = is_pair[None, :, None] & (h < H)[:, None, None]
    blocks = ()
    for start in tl.static_range(0, WIDTH, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)
        mask = is_row & (i < WIDTH)[None, None, :]
        blocks = blocks + (tl.load(rows + i[None, None, :], mask=mask, other=0.0),)  # noqa: RUF005 (Triton has no *)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    hiddens = ()
    for start in tl.static_range(0, WIDTH, BLOCK_I):
        i = start + tl.arange(0, BLOCK_I)
        place = hidden_PI + (token * K + k)[:, None] * WIDTH + i[None, :]
        hidden = tl.load(place, mask=is_pair[:, None] & (i < WIDTH)[None, :], other=0.0)
        hiddens = hiddens + (hidden,)  # noqa: RUF005 (Triton has no *)
    scale = tl.load(weights_P + token * K + k, mask=is_pair, other=0.0)
    tl.debug_barrier()
    total = tl.zeros([BLOCK_H, BLOCK_K, BLOCK_I], dtype=tl.float32)
    for block in tl.static_range((WIDTH + BLOCK_I - 1) // BLOCK_I):
        total += blocks[block].to(tl.float32) * hiddens[block].to(tl.float32)[None, :, :]
    total = tl.sum(tl.sum(total, 2) * scale[None, :], 1)
    tl.store(out_TH + token * H + h, total.to(out_TH.dtype.element_ty), mask=h < H)


@triton.jit
def count_kernel(
    ids_P, counts_SE, num_pairs,
    E: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_P: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """How many pairs of a segment each expert has. Grid: (S,)."""
    segment = tl.program_id(0)
    p = segment * BLOCK_P + tl.arange(0, BLOCK_P)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    ids = tl.load(ids_P + p, mask=p < num_pairs, other=-1).to(tl.int32)
    e = tl.arange(0, BLOCK_E)
    counts = tl.histogram(tl.where(ids < 0, E, ids), BLOCK_E)
    tl.store(counts_SE + segment * E + e, counts, mask=e < E)


@triton.jit
def place_kernel(
    ids_P, counts_SE, counts_E, order_P, num_pairs, segments,
    E: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, GROUP: tl.constexpr,
    IS_ALONE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Pairs sorted by expert, in their order within an expert. Grid: (S, groups of experts).

    A program places the pairs of its segment that go to its experts. If the segment is alone it counts by itself.
    """
    segment, group = tl.program_id(0), tl.program_id(1)
    p = segment * BLOCK_P + tl.arange(0, BLOCK_P)
    e = tl.arange(0, BLOCK_E)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    ids = tl.load(ids_P + p, mask=p < num_pairs, other=-1).to(tl.int32)
    earlier = tl.zeros([BLOCK_E], dtype=tl.int32)
    if IS_ALONE:
        totals = tl.histogram(tl.where(ids < 0, E, ids), BLOCK_E)
        totals = tl.where(e < E, totals, 0)
    else:
        totals = tl.zeros([BLOCK_E], dtype=tl.int32)
        for start in tl.range(0, segments, BLOCK_S):
            s = start + tl.arange(0, BLOCK_S)
            mask = (s < segments)[:, None] & (e < E)[None, :]
            counts = tl.load(counts_SE + s[:, None] * E + e[None, :], mask=mask, other=0)
            totals += tl.sum(counts, 0)
            earlier += tl.sum(tl.where((s < segment)[:, None], counts, 0), 0)
    if (segment == 0) & (group == 0):
        tl.store(counts_E + e, totals, mask=e < E)
    begins = tl.cumsum(totals, 0) - totals + earlier
    # Two experts share a scan: no segment has more pairs than half an integer counts.
    place = tl.zeros([BLOCK_P], dtype=tl.int32)
    is_mine = (ids >= group * GROUP) & (ids < group * GROUP + GROUP)
    for index in tl.static_range(0, GROUP, 2):
        expert = group * GROUP + index
        ranks = tl.cumsum(tl.where(ids == expert, 1, 0) + tl.where(ids == expert + 1, 65536, 0), 0)
        first = tl.sum(tl.where(e == expert, begins, 0), 0) + (ranks & 65535) - 1
        second = tl.sum(tl.where(e == expert + 1, begins, 0), 0) + (ranks >> 16) - 1
        place = tl.where(ids == expert, first, tl.where(ids == expert + 1, second, place))
    tl.store(order_P + place, p, mask=is_mine)


@triton.jit
def grouped_kernel(
    x_RC, w_EOC, order_P, counts_E, weights_P, out_PO, stride_x, stride_expert, programs,
    C: tl.constexpr, OUT: tl.constexpr, E: tl.constexpr, K: tl.constexpr, BLOCK_E: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_C: tl.constexpr, IS_UP: tl.constexpr,
    SWAP: tl.constexpr, W_TMA: tl.constexpr, X_TMA: tl.constexpr, IS_PERSISTENT: tl.constexpr,
    HALF_TAIL: tl.constexpr, PDL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products of the experts with their rows, tile by tile. Grid: (programs,).

    The tiles of an expert are neighbours, its row tiles fastest, so that weights and rows come from the cache the
    second time. A persistent program takes every ``programs``-th tile, and fetches its next one while it writes;
    otherwise each takes one, and those beyond the last tile return at once. With ``HALF_TAIL`` an expert's last tile
    has half as many rows if those are enough.
    """
    columns: tl.constexpr = (OUT + BLOCK_O - 1) // BLOCK_O
    e = tl.arange(0, BLOCK_E)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    counts = tl.load(counts_E + e, mask=e < E, other=0)
    ends = tl.cumsum((counts + BLOCK_M - 1) // BLOCK_M * columns, 0)
    num_tiles = tl.max(ends, 0)
    if IS_PERSISTENT:
        for tile in tl.range(tl.program_id(0), num_tiles, programs, flatten=True):
            expert, begin, count, first_m, column = _find_tile(tile, counts, ends, e, BLOCK_M)
            _grouped_tile(
                x_RC, w_EOC, order_P, weights_P, out_PO, stride_x, stride_expert,
                expert, begin, count, first_m, column * BLOCK_O,
                C, OUT, K, BLOCK_M, BLOCK_O, BLOCK_C, IS_UP, SWAP, W_TMA, X_TMA, PRECISION,
            )  # fmt: skip
    elif tl.program_id(0) < num_tiles:
        expert, begin, count, first_m, column = _find_tile(tl.program_id(0), counts, ends, e, BLOCK_M)
        if HALF_TAIL and count - first_m <= BLOCK_M // 2:
            _grouped_tile(
                x_RC, w_EOC, order_P, weights_P, out_PO, stride_x, stride_expert,
                expert, begin, count, first_m, column * BLOCK_O,
                C, OUT, K, BLOCK_M // 2, BLOCK_O, BLOCK_C, IS_UP, SWAP, W_TMA, X_TMA, PRECISION,
            )  # fmt: skip
        else:
            _grouped_tile(
                x_RC, w_EOC, order_P, weights_P, out_PO, stride_x, stride_expert,
                expert, begin, count, first_m, column * BLOCK_O,
                C, OUT, K, BLOCK_M, BLOCK_O, BLOCK_C, IS_UP, SWAP, W_TMA, X_TMA, PRECISION,
            )  # fmt: skip


@triton.jit
def _find_tile(tile, counts, ends, e, BLOCK_M: tl.constexpr):
    """(expert, where its rows begin, how many it has, first row of the tile, block of columns).

    ``ends`` says at which tile each expert ends, so that nobody else needs to know.
    """
    expert = tl.sum((ends <= tile).to(tl.int32), 0)
    index = tile - tl.max(tl.where(ends <= tile, ends, 0), 0)
    begin = tl.sum(tl.where(e < expert, counts, 0), 0)
    count = tl.sum(tl.where(e == expert, counts, 0), 0)
    row_tiles = (count + BLOCK_M - 1) // BLOCK_M
    return expert, begin, count, index % row_tiles * BLOCK_M, index // row_tiles


@triton.jit
def _grouped_tile(
    x_RC, w_EOC, order_P, weights_P, out_PO, stride_x, stride_expert, expert, begin, count, first_m, first_o,
    C: tl.constexpr, OUT: tl.constexpr, K: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_C: tl.constexpr, IS_UP: tl.constexpr,
    SWAP: tl.constexpr, W_TMA: tl.constexpr, X_TMA: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile.

    The up product reads token rows, computes gate and up of a block of columns in one product and writes
    silu(gate) * up in sorted order; the down product reads those, scales by the routing weight, and writes at each
    pair's own place. With ``SWAP`` the weights are the left side: for few rows an expert. ``W_TMA`` and ``X_TMA``:
    ``w_EOC`` is a descriptor over [parts of E, O, C], ``x_RC`` one over [R, C].
    """
    parts: tl.constexpr = 2 if IS_UP else 1
    m = first_m + tl.arange(0, BLOCK_M)
    is_row = m < count
    # Read before the product, which hides how long it takes.
    pair = tl.load(order_P + begin + m, mask=is_row, other=0)
    if IS_UP:
        x_row, out_row = pair // K, begin + m
    else:
        x_row, out_row = begin + m, pair
        scale = tl.load(weights_P + pair, mask=is_row, other=0.0)
    # Rows of the weights: of the gate, and then of the up projection.
    j = tl.arange(0, parts * BLOCK_O)
    w_row = first_o + j % BLOCK_O
    if not W_TMA:
        w_place = w_EOC + expert.to(tl.int64) * stride_expert + (w_row + j // BLOCK_O * OUT)[:, None] * C
    if not X_TMA:
        x_place = x_RC + x_row[:, None].to(tl.int64) * stride_x
    if SWAP:
        acc = tl.zeros([parts * BLOCK_O, BLOCK_M], dtype=tl.float32)
    else:
        acc = tl.zeros([BLOCK_M, parts * BLOCK_O], dtype=tl.float32)
    for start in tl.range(0, C, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        if X_TMA:
            x = x_RC.load([begin + first_m, start])
        else:
            x = tl.load(x_place + c[None, :], mask=is_row[:, None] & (c < C)[None, :], other=0.0)
        if W_TMA:
            w = tl.reshape(w_EOC.load([expert * parts, first_o, start]), [parts * BLOCK_O, BLOCK_C])
        else:
            w = tl.load(w_place + c[None, :], mask=(w_row < OUT)[:, None] & (c < C)[None, :], other=0.0)
        if SWAP:
            acc = tl.dot(w, x.T, acc, input_precision=PRECISION)
        else:
            acc = tl.dot(x, w.T, acc, input_precision=PRECISION)
    if IS_UP:
        if SWAP:
            gate, up = tl.split(tl.permute(tl.reshape(acc, [2, BLOCK_O, BLOCK_M]), (1, 2, 0)))
        else:
            gate, up = tl.split(tl.permute(tl.reshape(acc, [BLOCK_M, 2, BLOCK_O]), (0, 2, 1)))
        out = gate * tl.sigmoid(gate) * up
    elif SWAP:
        out = acc * scale[None, :]
    else:
        out = acc * scale[:, None]
    o = first_o + tl.arange(0, BLOCK_O)
    if SWAP:
        place = out_PO + out_row[None, :].to(tl.int64) * OUT + o[:, None]
        is_stored = is_row[None, :] & (o < OUT)[:, None]
    else:
        place = out_PO + out_row[:, None].to(tl.int64) * OUT + o[None, :]
        is_stored = is_row[:, None] & (o < OUT)[None, :]
    tl.store(place, out.to(out_PO.dtype.element_ty), mask=is_stored)


@triton.jit
def sum_kernel(
    parts_PH, ids_P, out_TH,
    H: tl.constexpr, K: tl.constexpr, BLOCK_H: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """The sum over each token's experts, in their order, so that it does not depend on the batch.
    Grid: (T, blocks of H)."""
    token = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros([BLOCK_H], dtype=tl.float32)
    for choice in tl.static_range(0, K):
        pair = token * K + choice
        is_pair = tl.load(ids_P + pair) >= 0
        total += tl.load(parts_PH + pair * H + h, mask=(h < H) & is_pair, other=0.0).to(tl.float32)
    tl.store(out_TH + token * H + h, total.to(out_TH.dtype.element_ty), mask=h < H)
