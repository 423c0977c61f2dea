"""Filters and draw.

The weight of a token is its probability over that of the best, exp((logit - best) / temperature), in float32. Its
key is the weight's bits, which order as weights do. Its mass is the weight in units of 2^-42, a whole number: sums
of masses are exact, whatever their order, so neither the cut of a row nor its neighbours can change a token.

Top-k and top-p: first the row is counted at a few levels of weight. Then the tokens at or above the level that holds
the threshold, a few of them as a rule, are put side by side, and one program closes in on the threshold among those.

Shape letters: N drawn rows, V vocabulary, P parts of a row, J levels, M tokens that were put side by side.
"""

from __future__ import annotations

import triton
import triton.language as tl

_UNITS = tl.constexpr(float(1 << 42))
#: One more than the key of the best token.
_TOP_KEY = tl.constexpr(0x3F800001)


@triton.jit
def keys_of(logits, v, is_token, best, temperature):
    """Keys of tokens; what is not a number weighs nothing."""
    x = tl.load(logits + v, mask=is_token, other=float("-inf")).to(tl.float32)
    weight = tl.exp((x - best) / temperature)
    weight = tl.where(weight == weight, tl.minimum(weight, 1.0), 0.0)
    return weight.to(tl.int32, bitcast=True)


@triton.jit
def mass_of(key):
    """Masses of keys."""
    return (key.to(tl.float32, bitcast=True) * _UNITS).to(tl.int64)


@triton.jit
def level_keys(J: tl.constexpr):
    """[J] the least key of each level, falling."""
    j = tl.arange(0, J)
    return tl.where(j == J - 1, 0, (127 - j * (j + 1) // 2) << 23)


@triton.jit
def share_of(mass, share):
    """``share`` (float64) of a mass, at least one unit: a limit that masses must reach."""
    return tl.maximum((mass.to(tl.float64) * share).to(tl.int64), 1)


@triton.jit
def count_kernel(
    logits_SV, best_S, rows_N, temperature_N, counts_NPJ, masses_NPJ, stride, vocab_size, chunk,
    HAS_ROWS: tl.constexpr, J: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """How many tokens of a part are at or above each level, and what they weigh. Grid: (N, P)."""
    n = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    row = tl.load(rows_N + n) if HAS_ROWS else n
    best = tl.load(best_S + row)
    temperature = tl.load(temperature_N + n).to(tl.float32)
    levels = level_keys(J)
    counts = tl.zeros([J], dtype=tl.int32)
    masses = tl.zeros([J], dtype=tl.int64)
    for start in tl.range(0, chunk, BLOCK):
        v = part * chunk + start + tl.arange(0, BLOCK)
        key = keys_of(logits_SV + row * stride, v, v < vocab_size, best, temperature)
        is_above = (key[:, None] >= levels[None, :]) & (v < vocab_size)[:, None]
        counts += tl.sum(is_above.to(tl.int32), 0)
        masses += tl.sum(tl.where(is_above, mass_of(key)[:, None], 0), 0)
    place = (n * tl.num_programs(1) + part) * J + tl.arange(0, J)
    tl.store(counts_NPJ + place, counts)
    tl.store(masses_NPJ + place, masses)


@triton.jit
def gather_kernel(
    logits_SV, best_S, rows_N, temperature_N, top_k_N, top_p_N, counts_NPJ, masses_NPJ,
    keys_NV, level_N, length_N, mass_N, stride, vocab_size, chunk,
    HAS_ROWS: tl.constexpr, HAS_TOP_K: tl.constexpr, HAS_TOP_P: tl.constexpr,
    J: tl.constexpr, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Keys at or above the level that holds the threshold, side by side in the order of tokens. Grid: (N, P)."""
    n = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    num_parts = tl.num_programs(1)
    p = tl.arange(0, BLOCK_P)
    j = tl.arange(0, J)
    place = (n * num_parts + p[:, None]) * J + j[None, :]
    counts_PJ = tl.load(counts_NPJ + place, mask=(p < num_parts)[:, None], other=0)
    masses_J = tl.sum(tl.load(masses_NPJ + place, mask=(p < num_parts)[:, None], other=0), 0)
    counts_J = tl.sum(counts_PJ, 0)
    mass = tl.max(masses_J, 0)
    # The first level that reaches far enough; the last one always does.
    level = J
    if HAS_TOP_P:
        top_p = tl.load(top_p_N + n)
        if top_p < 1.0:
            level = tl.min(tl.where((masses_J >= share_of(mass, top_p)) | (j == J - 1), j, J), 0)
    if HAS_TOP_K:
        # Top-p is a share of what top-k keeps, so all of that is needed.
        top_k = tl.load(top_k_N + n)
        if top_k < vocab_size:
            level = tl.min(tl.where((counts_J >= top_k) | (j == J - 1), j, J), 0)
    if part == 0:
        tl.store(level_N + n, level)
        tl.store(length_N + n, tl.sum(tl.where(j == level, counts_J, 0), 0))
        tl.store(mass_N + n, mass)
    if level < J:
        row = tl.load(rows_N + n) if HAS_ROWS else n
        best = tl.load(best_S + row)
        temperature = tl.load(temperature_N + n).to(tl.float32)
        least = tl.sum(tl.where(j == level, level_keys(J), 0), 0)
        is_before = (p < part)[:, None] & (j == level)[None, :]
        end = tl.sum(tl.sum(tl.where(is_before, counts_PJ, 0), 1), 0)
        for start in tl.range(0, chunk, BLOCK):
            v = part * chunk + start + tl.arange(0, BLOCK)
            key = keys_of(logits_SV + row * stride, v, v < vocab_size, best, temperature)
            is_taken = (key >= least) & (v < vocab_size)
            order = tl.cumsum(is_taken.to(tl.int32), 0)
            tl.store(keys_NV + n * vocab_size + end + order - 1, key, mask=is_taken)
            end += tl.sum(is_taken.to(tl.int32), 0)


@triton.jit
def _reach(keys, length, goal, low, high, BY_MASS: tl.constexpr, BLOCK: tl.constexpr, PIVOTS: tl.constexpr):
    """The largest key so that the keys from it on reach ``goal``, in number or in mass.

    Those from ``low`` on reach it, those from ``high`` on do not.
    """
    while high - low > 1:
        step = (high - low + PIVOTS) // (PIVOTS + 1)
        pivots = low + step * (1 + tl.arange(0, PIVOTS))
        total = tl.zeros([PIVOTS], dtype=tl.int64)
        for start in tl.range(0, length, BLOCK):
            m = start + tl.arange(0, BLOCK)
            key = tl.load(keys + m, mask=m < length, other=-1)
            worth = mass_of(key) if BY_MASS else tl.full([BLOCK], 1, dtype=tl.int64)
            total += tl.sum(tl.where(key[:, None] >= pivots[None, :], worth[:, None], 0), 0)
        does_reach = (total >= goal) & (pivots < high)
        new_low = tl.max(tl.where(does_reach, pivots, low), 0)
        high = tl.min(tl.where(does_reach | (pivots >= high), high, pivots), 0)
        low = new_low
    return low


@triton.jit
def threshold_kernel(
    keys_NV, level_N, length_N, mass_N, top_k_N, top_p_N, min_p_N, threshold_N, vocab_size,
    HAS_TOP_K: tl.constexpr, HAS_TOP_P: tl.constexpr, HAS_MIN_P: tl.constexpr,
    J: tl.constexpr, BLOCK: tl.constexpr, PIVOTS: tl.constexpr,
):  # fmt: skip
    """The least key that all filters keep. Grid: (N,)."""
    n = tl.program_id(0).to(tl.int64)
    keys = keys_NV + n * vocab_size
    level = tl.load(level_N + n)
    length = tl.load(length_N + n)
    mass = tl.load(mass_N + n)
    j = tl.arange(0, J)
    low = tl.sum(tl.where(j == level, level_keys(J), 0), 0)
    high = tl.min(tl.where(j == level - 1, level_keys(J), _TOP_KEY), 0)
    threshold = low * 0
    if HAS_TOP_K:
        top_k = tl.load(top_k_N + n)
        if top_k < vocab_size:
            threshold = _reach(keys, length, top_k, low, high, False, BLOCK, PIVOTS)
            low = threshold
            high = low * 0 + _TOP_KEY
            mass = mass * 0
            for start in tl.range(0, length, BLOCK):
                m = start + tl.arange(0, BLOCK)
                key = tl.load(keys + m, mask=m < length, other=-1)
                mass += tl.sum(tl.where(key >= threshold, mass_of(key), 0), 0)
    if HAS_TOP_P:
        top_p = tl.load(top_p_N + n)
        if top_p < 1.0:
            threshold = _reach(keys, length, share_of(mass, top_p), low, high, True, BLOCK, PIVOTS)
    if HAS_MIN_P:
        least = tl.load(min_p_N + n).to(tl.float32).to(tl.int32, bitcast=True)
        threshold = tl.maximum(threshold, least)
    tl.store(threshold_N + n, threshold)


@triton.jit
def part_mass_kernel(
    logits_SV, best_S, rows_N, temperature_N, threshold_N, masses_NP, stride, vocab_size, chunk,
    HAS_ROWS: tl.constexpr, HAS_THRESHOLD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The kept mass of a part. Grid: (N, P)."""
    n = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    row = tl.load(rows_N + n) if HAS_ROWS else n
    best = tl.load(best_S + row)
    temperature = tl.load(temperature_N + n).to(tl.float32)
    masses = tl.zeros([BLOCK], dtype=tl.int64)
    for start in tl.range(0, chunk, BLOCK):
        v = part * chunk + start + tl.arange(0, BLOCK)
        key = keys_of(logits_SV + row * stride, v, v < vocab_size, best, temperature)
        if HAS_THRESHOLD:
            key = tl.where(key >= tl.load(threshold_N + n), key, 0)
        masses += mass_of(key)
    tl.store(masses_NP + n * tl.num_programs(1) + part, tl.sum(masses, 0))


@triton.jit
def pick_kernel(
    logits_SV, best_S, rows_N, temperature_N, threshold_N, uniform_N, masses_NP, tokens_N,
    stride, vocab_size, chunk, num_parts,
    HAS_ROWS: tl.constexpr, HAS_THRESHOLD: tl.constexpr, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """The part that holds the number, and the token in it. Grid: (N,)."""
    n = tl.program_id(0).to(tl.int64)
    row = tl.load(rows_N + n) if HAS_ROWS else n
    best = tl.load(best_S + row)
    temperature = tl.load(temperature_N + n).to(tl.float32)
    p = tl.arange(0, BLOCK_P)
    masses = tl.load(masses_NP + n * num_parts + p, mask=p < num_parts, other=0)
    running = tl.cumsum(masses, 0)
    total = tl.sum(masses, 0)
    # Below the total, also where the product rounds up.
    goal = tl.minimum((tl.load(uniform_N + n) * total.to(tl.float64)).to(tl.int64), total - 1)
    is_passed = running <= goal
    part = tl.minimum(tl.sum(is_passed.to(tl.int32), 0), num_parts - 1)
    left = goal - tl.sum(tl.where(is_passed, masses, 0), 0)
    token = part * chunk
    for start in tl.range(0, chunk, BLOCK):
        v = part * chunk + start + tl.arange(0, BLOCK)
        key = keys_of(logits_SV + row * stride, v, v < vocab_size, best, temperature)
        if HAS_THRESHOLD:
            key = tl.where(key >= tl.load(threshold_N + n), key, 0)
        mass = mass_of(key)
        # Running masses never fall, so those that are not beyond the number come first.
        token += tl.sum((tl.cumsum(mass, 0) <= left).to(tl.int32), 0)
        left -= tl.sum(mass, 0)
    tl.store(tokens_N + n, tl.minimum(token, vocab_size - 1).to(tl.int64))
