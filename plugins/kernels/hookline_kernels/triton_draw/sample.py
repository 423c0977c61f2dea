"""``sample_tokens``: filters and draw. See the kernels for why no row's token depends on how the work is cut.

Shape letters as in the kernels.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hookline.layers.sampling import sample_tokens as reference
from hookline_kernels.triton_draw.kernels import (
    count_kernel,
    gather_kernel,
    part_mass_kernel,
    pick_kernel,
    threshold_kernel,
)
from hookline_kernels.triton_sampling.parts import BLOCK, cut

#: Largest vocabulary whose masses cannot overflow when they are added up.
MAX_VOCAB = 1 << 20
#: Levels of weight that a row is looked at first: 2^-(j (j + 1) / 2), and the last takes everything.
NUM_LEVELS = 8
#: Tokens by levels, and candidates by pivots, that one program holds at once.
_COUNT_BLOCK = 512
_REACH_BLOCK = 256
_PIVOTS = 32


def sample_tokens(
    logits_SV: Tensor,
    best_S: Tensor,
    rows_N: Tensor | None,
    temperature_N: Tensor,
    top_k_N: Tensor | None,
    top_p_N: Tensor | None,
    min_p_N: Tensor | None,
    uniform_N: Tensor,
    num_candidates: int,
) -> Tensor:
    """See ``hookline.layers.sampling.sample_tokens``."""
    vocab_size = logits_SV.shape[1]
    if vocab_size > MAX_VOCAB:
        return reference(logits_SV, best_S, rows_N, temperature_N, top_k_N, top_p_N, min_p_N, uniform_N, num_candidates)
    count, device = len(uniform_N), logits_SV.device
    tokens_N = torch.empty(count, dtype=torch.int64, device=device)
    if not count:
        return tokens_N
    if logits_SV.stride(-1) != 1:
        logits_SV = logits_SV.contiguous()
    parts, chunk = cut(count, vocab_size)
    threshold_N = _threshold(logits_SV, best_S, rows_N, temperature_N, top_k_N, top_p_N, min_p_N, parts, chunk)
    masses_NP = torch.empty(count, parts, dtype=torch.int64, device=device)
    # A pointer that is not read must still be one.
    rows, thresholds = tokens_N if rows_N is None else rows_N, tokens_N if threshold_N is None else threshold_N
    common = {"HAS_ROWS": rows_N is not None, "HAS_THRESHOLD": threshold_N is not None, "BLOCK": BLOCK, "num_warps": 4}
    part_mass_kernel[(count, parts)](
        logits_SV, best_S, rows, temperature_N, thresholds, masses_NP, logits_SV.stride(0), vocab_size, chunk, **common
    )
    pick_kernel[(count,)](
        logits_SV, best_S, rows, temperature_N, thresholds, uniform_N, masses_NP, tokens_N,
        logits_SV.stride(0), vocab_size, chunk, parts, BLOCK_P=triton.next_power_of_2(parts), **common,
    )  # fmt: skip
    return tokens_N


def _threshold(
    logits_SV: Tensor,
    best_S: Tensor,
    rows_N: Tensor | None,
    temperature_N: Tensor,
    top_k_N: Tensor | None,
    top_p_N: Tensor | None,
    min_p_N: Tensor | None,
    parts: int,
    chunk: int,
) -> Tensor | None:
    """[N] int32 the least key that is kept; ``None`` without filters."""
    if top_k_N is None and top_p_N is None:
        # The best weighs one, so the share of the best is the weight itself.
        return None if min_p_N is None else min_p_N.float().view(torch.int32)
    count, device, vocab_size = len(temperature_N), logits_SV.device, logits_SV.shape[1]
    counts_NPJ = torch.empty(count, parts, NUM_LEVELS, dtype=torch.int32, device=device)
    masses_NPJ = torch.empty(count, parts, NUM_LEVELS, dtype=torch.int64, device=device)
    # int32 keys; only the first few of each row are written as a rule.
    keys_NV = torch.empty(count, vocab_size, dtype=torch.int32, device=device)
    level_N, length_N, threshold_N = torch.empty(3, count, dtype=torch.int32, device=device).unbind()
    mass_N = torch.empty(count, dtype=torch.int64, device=device)
    rows = mass_N if rows_N is None else rows_N
    top_k, top_p, min_p = (mass_N if given is None else given for given in (top_k_N, top_p_N, min_p_N))
    stride, has_rows = logits_SV.stride(0), rows_N is not None
    filters = {"HAS_TOP_K": top_k_N is not None, "HAS_TOP_P": top_p_N is not None}
    count_kernel[(count, parts)](
        logits_SV, best_S, rows, temperature_N, counts_NPJ, masses_NPJ, stride, vocab_size, chunk,
        HAS_ROWS=has_rows, J=NUM_LEVELS, BLOCK=_COUNT_BLOCK, num_warps=4,
    )  # fmt: skip
    gather_kernel[(count, parts)](
        logits_SV, best_S, rows, temperature_N, top_k, top_p, counts_NPJ, masses_NPJ,
        keys_NV, level_N, length_N, mass_N, stride, vocab_size, chunk, HAS_ROWS=has_rows, **filters,
        J=NUM_LEVELS, BLOCK=BLOCK, BLOCK_P=triton.next_power_of_2(parts), num_warps=4,
    )  # fmt: skip
    threshold_kernel[(count,)](
        keys_NV, level_N, length_N, mass_N, top_k, top_p, min_p, threshold_N, vocab_size,
        HAS_MIN_P=min_p_N is not None, **filters,
        J=NUM_LEVELS, BLOCK=_REACH_BLOCK, PIVOTS=_PIVOTS, num_warps=4,
    )  # fmt: skip
    return threshold_N
