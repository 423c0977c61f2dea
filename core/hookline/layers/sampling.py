"""References of the ops that turn logits into tokens and log-probabilities.

Every row is computed by itself: the same row gives the same token whatever rows lie beside it. The filters are
thresholds on the probability: top-k keeps what is at least as probable as the k-th best, top-p the smallest such
set whose share of what top-k kept reaches the mass, min-p what reaches its share of the best. Equal probabilities
stand or fall together. The draw inverts the cumulative distribution in the order of token ids at one number per row.

Shape letters: S rows of logits, N of them that are drawn, C that are constrained, V vocabulary, W words of a mask,
K candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Best tokens that top-p looks at before it sorts the whole vocabulary.
_CANDIDATES = (128, 1024)
#: Tokens whose probabilities are added up before the draw looks closer.
_BLOCK = 512
#: Tokens of one word of a mask.
_WORD = 32


def argmax(logits_SV: Tensor) -> tuple[Tensor, Tensor]:
    """The best logit of each row and the first token that has it: float32 [S], int64 [S].

    A row that holds NaN gives NaN and the first token that is NaN.
    """
    best_S, token_ids_S = logits_SV.max(dim=-1)
    return best_S.float(), token_ids_S


def log_softmax(logits_SV: Tensor) -> Tensor:
    """Logarithms of the probabilities of each row, [S, V] float32."""
    return torch.log_softmax(logits_SV, dim=-1, dtype=torch.float32)


def apply_bitmask(logits_SV: Tensor, rows_C: Tensor, words_CW: Tensor) -> Tensor:
    """Make what the masks forbid minus infinity, in place; gives ``logits_SV``.

    ``rows_C`` int64 are different rows. Bit i % 32 of word i // 32 (int32) is set where token i is allowed; W is
    V / 32, rounded up, or more.
    """
    vocab_size = logits_SV.shape[1]
    shifts = torch.arange(_WORD, dtype=torch.int32, device=logits_SV.device)
    bits_CV = ((words_CW[:, :, None] >> shifts) & 1).flatten(1)[:, :vocab_size]
    logits_SV[rows_C] = logits_SV[rows_C].masked_fill_(bits_CV == 0, -torch.inf)
    return logits_SV


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
    """Draw a token for each of some rows: int64 [N], each one of the vocabulary whatever the row holds.

    ``best_S`` is the largest logit of each row, ``rows_N`` int64 which rows to draw (``None``: all, in order).
    ``temperature``, ``top_p``, ``min_p`` and ``uniform`` are float64, ``top_k`` is int64. A filter is ``None`` where
    no row has it, and off for a row at V, 1.0 or 0.0. ``uniform`` is in [0, 1). ``num_candidates`` is what the host
    knows: the largest top-k in use, or V if some row has top-p but no top-k.
    """
    vocab_size = logits_SV.shape[1]
    if rows_N is not None:
        logits_SV, best_S = logits_SV[rows_N], best_S[rows_N]
    probs_NV = probabilities(logits_SV, best_S, temperature_N)
    threshold_N = filter_threshold(probs_NV, top_k_N, top_p_N, min_p_N, vocab_size, num_candidates)
    if threshold_N is not None:
        probs_NV.masked_fill_(probs_NV < threshold_N[:, None], 0.0)
    # A row at fault is NaN throughout and gives an index beyond the end; its token must still be one.
    return draw(probs_NV, uniform_N).clamp_(max=vocab_size - 1)


def probabilities(logits_NV: Tensor, best_N: Tensor, temperature_N: Tensor) -> Tensor:
    """Softmax of logits / temperature, [N, V] rounded up to whole blocks with zeros."""
    num_rows, vocab_size = logits_NV.shape
    padded = -(-vocab_size // _BLOCK) * _BLOCK
    scaled = torch.empty(num_rows, padded, dtype=torch.float32, device=logits_NV.device)
    scaled[:, vocab_size:] = -torch.inf
    # The best is subtracted first: a tiny temperature then overflows towards minus infinity only.
    torch.sub(logits_NV, best_N[:, None], out=scaled[:, :vocab_size])
    scaled /= temperature_N.to(scaled.dtype)[:, None]
    return torch.softmax(scaled, dim=-1)


def filter_threshold(
    probs_NV: Tensor,
    top_k_N: Tensor | None,
    top_p_N: Tensor | None,
    min_p_N: Tensor | None,
    vocab_size: int,
    num_candidates: int,
) -> Tensor | None:
    """[N] the least probability that top-k, top-p and min-p together keep; ``None`` without filters."""
    threshold_N = None
    if top_k_N is not None or top_p_N is not None:
        threshold_N = _rank_threshold(probs_NV, top_k_N, top_p_N, vocab_size, num_candidates)
    if min_p_N is not None:
        least_N = min_p_N.to(probs_NV.dtype) * probs_NV.amax(dim=-1)
        threshold_N = least_N if threshold_N is None else torch.maximum(threshold_N, least_N)
    return threshold_N


def _rank_threshold(
    probs_NV: Tensor, top_k_N: Tensor | None, top_p_N: Tensor | None, vocab_size: int, num_candidates: int
) -> Tensor:
    """[N] the threshold of top-k and top-p.

    The best few tokens settle most rows; rows that need more are looked at again with more. The number of
    tokens looked at does not change a row's bits.
    """
    # Whether top-p reaches beyond the candidates is seen only in the values. Where reading them would wait
    # for the device, everything is sorted at once.
    sizes = [max(num_candidates, 1)]
    if num_candidates >= vocab_size:
        sizes = [size for size in _CANDIDATES if size < vocab_size] if probs_NV.device.type == "cpu" else []
        sizes.append(vocab_size)
    threshold_N = probs_NV.new_zeros(probs_NV.shape[0])
    rows_M: Tensor | None = None
    for size in sizes:
        probs_MV, top_k_M, top_p_M = probs_NV, top_k_N, top_p_N
        if rows_M is not None:
            probs_MV = probs_NV[rows_M]
            top_k_M = None if top_k_N is None else top_k_N[rows_M]
            top_p_M = None if top_p_N is None else top_p_N[rows_M]
        found_M, is_settled_M = _threshold(probs_MV, _largest(probs_MV, size), top_k_M, top_p_M, vocab_size)
        if rows_M is None:
            threshold_N = found_M
        else:
            threshold_N[rows_M] = found_M
        if size == sizes[-1] or bool(is_settled_M.all()):
            break
        unsettled_M = torch.nonzero(~is_settled_M)[:, 0]
        rows_M = unsettled_M if rows_M is None else rows_M[unsettled_M]
    return threshold_N


def _largest(values_MV: Tensor, count: int) -> Tensor:
    """The ``count`` largest of each row, best first."""
    if count * 8 > values_MV.shape[1]:
        return values_MV.sort(dim=-1, descending=True).values[:, :count]
    return values_MV.topk(count, dim=-1).values


def _threshold(
    probs_NV: Tensor, values_NK: Tensor, top_k_N: Tensor | None, top_p_N: Tensor | None, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """[N] threshold from the K largest probabilities, best first; [N] whether K were enough to tell."""
    num_rows, size = values_NK.shape
    if top_k_N is None:
        top_k_N = torch.full((num_rows,), vocab_size, device=values_NK.device)
    has_top_k_N = top_k_N < vocab_size
    last_N = top_k_N.clamp(max=size) - 1
    kth_N = torch.where(has_top_k_N, values_NK.gather(1, last_N[:, None])[:, 0], 0.0)
    if top_p_N is None:
        return kth_N, ~has_top_k_N | (top_k_N <= size)
    has_top_p_N = top_p_N < 1.0
    # Top-p is a share of what top-k left, equals of the k-th included; without top-k that is everything.
    kept_N = torch.where(probs_NV >= kth_N[:, None], probs_NV, 0.0).sum(dim=-1, dtype=torch.float64)
    limit_N = torch.where(has_top_p_N, top_p_N * torch.where(has_top_k_N, kept_N, 1.0), torch.inf)
    cumulative_NK = values_NK.cumsum(dim=-1, dtype=torch.float64)
    within_N = ((cumulative_NK - values_NK) < limit_N[:, None]).sum(dim=-1)
    # A row of NaN is within nothing; it must still have an index.
    last_N = torch.minimum(last_N, within_N - 1).clamp_(min=0)
    threshold_N = values_NK.gather(1, last_N[:, None])[:, 0]
    threshold_N = torch.where(has_top_k_N | has_top_p_N, threshold_N, 0.0)
    return threshold_N, torch.where(has_top_k_N, top_k_N <= size, ~has_top_p_N | (within_N < size))


def draw(probs_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """[N] the token at which the running sum of ``probs_NV`` (not normalised, V in whole blocks) passes
    ``uniform_N`` (float64 in [0, 1)) of its total. Never a token of probability zero."""
    num_rows, width = probs_NV.shape
    blocks_NBK = probs_NV.view(num_rows, width // _BLOCK, _BLOCK)
    sums_NB = blocks_NBK.sum(dim=-1).to(torch.float64)
    block_N, share_N = _invert(sums_NB, uniform_N)
    # The share of the block, not its remainder: the block's own running sum may round otherwise.
    chosen_NK = blocks_NBK[torch.arange(num_rows, device=block_N.device), block_N]
    inner_N, _ = _invert(chosen_NK.to(torch.float64), share_N)
    return block_N * _BLOCK + inner_N


def _invert(weights_NK: Tensor, uniform_N: Tensor) -> tuple[Tensor, Tensor]:
    """([N] index where the running sum passes ``uniform_N`` of the total, [N] how far into that entry)."""
    cumulative_NK = weights_NK.cumsum(dim=-1)
    target_N1 = (uniform_N * cumulative_NK[:, -1])[:, None]
    index_N1 = torch.searchsorted(cumulative_NK, target_N1, right=True).clamp_(max=weights_NK.shape[1] - 1)
    weight_N1 = weights_NK.gather(1, index_N1)
    before_N1 = cumulative_NK.gather(1, index_N1) - weight_N1
    share_N1 = ((target_N1 - before_N1) / weight_N1).clamp_(0.0, 1.0 - 2.0**-53)
    return index_N1[:, 0], share_N1[:, 0]
