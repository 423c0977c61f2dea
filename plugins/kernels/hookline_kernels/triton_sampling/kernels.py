"""Kernels over rows of logits that need no randomness.

Shape letters: S rows, C constrained rows, V vocabulary, W words of a mask, P parts of a row.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOWEST = tl.constexpr(-(2**63))


@triton.jit
def _key(x, v):
    """int64 that orders by value, then by the earlier place; NaN is above all, and both zeros are one."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)
    order = tl.where(x != x, 0x7FFFFFFF, bits ^ ((bits >> 31) & 0x7FFFFFFF))
    return (order.to(tl.int64) << 32) | (0x7FFFFFFF - v).to(tl.int64)


@triton.jit
def _store(key, row, best_S, tokens_S):
    order = (key >> 32).to(tl.int32)
    bits = order ^ ((order >> 31) & 0x7FFFFFFF)
    tl.store(best_S + row, bits.to(tl.float32, bitcast=True))
    tl.store(tokens_S + row, 0x7FFFFFFF - (key & 0xFFFFFFFF))


@triton.jit
def argmax_kernel(
    logits_SV, keys_SP, best_S, tokens_S, stride, vocab_size, chunk,
    BLOCK: tl.constexpr, IS_WHOLE: tl.constexpr,
):  # fmt: skip
    """The best of a part of a row. Grid: (S, P)."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    found = tl.full([BLOCK], _LOWEST, dtype=tl.int64)
    for start in tl.range(0, chunk, BLOCK):
        v = part * chunk + start + tl.arange(0, BLOCK)
        x = tl.load(logits_SV + row * stride + v, mask=v < vocab_size, other=float("-inf")).to(tl.float32)
        # Places beyond the end lose against every token, also where all are minus infinity: they come later.
        found = tl.maximum(found, _key(x, v))
    key = tl.max(found, 0)
    if IS_WHOLE:
        _store(key, row, best_S, tokens_S)
    else:
        tl.store(keys_SP + row * tl.num_programs(1) + part, key)


@triton.jit
def merge_kernel(keys_SP, best_S, tokens_S, num_parts, BLOCK_P: tl.constexpr):
    """The best of all parts. Grid: (S,)."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, BLOCK_P)
    keys = tl.load(keys_SP + row * num_parts + part, mask=part < num_parts, other=_LOWEST)
    _store(tl.max(keys, 0), row, best_S, tokens_S)


@triton.jit
def log_softmax_kernel(logits_SV, out_SV, stride, vocab_size, BLOCK: tl.constexpr):
    """Grid: (S,). The row is read three times, twice of them from cache."""
    row = tl.program_id(0).to(tl.int64)
    place = logits_SV + row * stride
    peaks = tl.full([BLOCK], float("-inf"), dtype=tl.float32)
    for start in tl.range(0, vocab_size, BLOCK):
        v = start + tl.arange(0, BLOCK)
        peaks = tl.maximum(peaks, tl.load(place + v, mask=v < vocab_size, other=float("-inf")).to(tl.float32))
    peak = tl.max(peaks, 0)
    sums = tl.zeros([BLOCK], dtype=tl.float32)
    for start in tl.range(0, vocab_size, BLOCK):
        v = start + tl.arange(0, BLOCK)
        x = tl.load(place + v, mask=v < vocab_size, other=float("-inf")).to(tl.float32)
        # Beyond the end nothing is added, also where the peak is minus infinity.
        sums += tl.where(v < vocab_size, tl.exp(x - peak), 0.0)
    shift = peak + tl.log(tl.sum(sums, 0))
    for start in tl.range(0, vocab_size, BLOCK):
        v = start + tl.arange(0, BLOCK)
        x = tl.load(place + v, mask=v < vocab_size, other=0.0).to(tl.float32)
        tl.store(out_SV + row * vocab_size + v, x - shift, mask=v < vocab_size)


@triton.jit
def bitmask_kernel(logits_SV, rows_C, words_CW, stride, stride_words, vocab_size, BLOCK: tl.constexpr):
    """Grid: (C, blocks of V)."""
    place = tl.program_id(0).to(tl.int64)
    row = tl.load(rows_C + place)
    v = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_token = v < vocab_size
    words = tl.load(words_CW + place * stride_words + v // 32, mask=is_token, other=0)
    is_forbidden = ((words >> (v % 32)) & 1) == 0
    nothing = tl.full([BLOCK], float("-inf"), dtype=tl.float32).to(logits_SV.dtype.element_ty)
    tl.store(logits_SV + row * stride + v, nothing, mask=is_token & is_forbidden)
