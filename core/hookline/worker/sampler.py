"""Sampler: logits to tokens.

Order: penalties, logit bias and held-back end tokens, logits processors, grammar mask last (so that nothing
reopens a masked token); then the most probable token, or temperature, top-k, top-p, min-p and a draw.

Every row is computed by itself: the same row gives the same token whatever rows lie beside it. The filters
are thresholds on the probability: top-k keeps what is at least as probable as the k-th best, top-p the
smallest such set whose share of what top-k kept reaches the mass, min-p what reaches its share of the best.
Equal probabilities stand or fall together. The draw inverts the cumulative distribution in the order of
token ids at one number per row, made on the host from (seed, choice, position).

Shape letters: S sampled rows, N of them random, V vocabulary, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from hookline.platform import Platform
from hookline.worker.penalties import PenaltyTable
from hookline.worker.sampling_batch import LogitEdits, RandomBatch, SamplingBatch
from hookline.worker.sampling_rows import RowDetails

#: Best tokens that top-p looks at before it sorts the whole vocabulary.
_CANDIDATES = (128, 1024)
#: Tokens whose probabilities are added up before the draw looks closer.
_BLOCK = 512


@dataclass(slots=True, kw_only=True)
class Sampled:
    """What sampling gave."""

    #: [S] int64; always a token of the vocabulary, also where the row is at fault.
    token_ids: torch.Tensor
    #: [S] float32 largest logit that was left: not finite where the row is at fault.
    best: torch.Tensor
    #: Index into S -> what a logits processor did wrong.
    errors: dict[int, str] = field(default_factory=dict)


class Sampler:
    """Samples the rows of a pass. Runs in the work queue."""

    def __init__(self, penalties: PenaltyTable, platform: Platform) -> None:
        self._penalties = penalties
        self._platform = platform

    def sample(
        self,
        logits_SV: torch.Tensor,
        batch: SamplingBatch,
        bitmask: npt.NDArray[np.int32] | None = None,
    ) -> Sampled:
        """Tokens for all rows; ``logits_SV`` float32 are changed in place.

        ``bitmask`` [rows of ``batch.constrained``, V / 32] has bit i % 32 of word i // 32 set where token i
        is allowed.
        """
        if batch.penalties is not None:
            self._penalties.apply(logits_SV, batch.penalties)
        if batch.edits is not None:
            _apply_edits(logits_SV, batch.edits)
        errors = _apply_processors(logits_SV, batch.processed)
        if batch.constrained is not None and bitmask is not None:
            self._apply_bitmask(logits_SV, batch.constrained, bitmask)
        best_S, token_ids_S = logits_SV.max(dim=-1)
        if batch.random is not None:
            token_ids_S = self._draw_into(token_ids_S, logits_SV, best_S, batch.random)
        if batch.penalties is not None:
            self._penalties.count(batch.penalties, token_ids_S)
        return Sampled(token_ids=token_ids_S, best=best_S, errors=errors)

    def _draw_into(
        self, token_ids_S: torch.Tensor, logits_SV: torch.Tensor, best_S: torch.Tensor, random: RandomBatch
    ) -> torch.Tensor:
        if random.index is None:
            return self._draw(logits_SV, best_S, random)
        token_ids_S[random.index] = self._draw(logits_SV[random.index], best_S[random.index], random)
        return token_ids_S

    def _draw(self, logits_NV: torch.Tensor, best_N: torch.Tensor, random: RandomBatch) -> torch.Tensor:
        probs_NV = probabilities(logits_NV, best_N, random.temperature)
        if random.needs_top_k or random.needs_top_p or random.needs_min_p:
            threshold_N = filter_threshold(
                probs_NV, random, logits_NV.shape[1], reads_are_free=self._platform.reads_are_free
            )
            probs_NV.masked_fill_(probs_NV < threshold_N[:, None], 0.0)
        # A row at fault is NaN throughout and gives an index beyond the end; its token must still be one.
        return draw(probs_NV, random.uniform).clamp_(max=logits_NV.shape[1] - 1)

    def _apply_bitmask(self, logits_SV: torch.Tensor, index: torch.Tensor, bitmask: npt.NDArray[np.int32]) -> None:
        vocab_size = logits_SV.shape[1]
        bits = np.unpackbits(np.ascontiguousarray(bitmask).view(np.uint8), axis=1, bitorder="little", count=vocab_size)
        forbidden = self._platform.host_buffer(bits.shape, torch.bool)
        np.logical_not(bits, out=forbidden.numpy())
        rows = logits_SV[index].masked_fill_(forbidden.to(logits_SV.device, non_blocking=True), -torch.inf)
        logits_SV[index] = rows


def probabilities(logits_NV: torch.Tensor, best_N: torch.Tensor, temperature_N: torch.Tensor) -> torch.Tensor:
    """Softmax of logits / temperature, [N, V] rounded up to whole blocks with zeros."""
    num_rows, vocab_size = logits_NV.shape
    padded = -(-vocab_size // _BLOCK) * _BLOCK
    scaled = logits_NV.new_empty(num_rows, padded)
    scaled[:, vocab_size:] = -torch.inf
    # The best is subtracted first: a tiny temperature then overflows towards minus infinity only.
    torch.sub(logits_NV, best_N[:, None], out=scaled[:, :vocab_size])
    scaled /= temperature_N.to(scaled.dtype)[:, None]
    return torch.softmax(scaled, dim=-1)


def filter_threshold(
    probs_NV: torch.Tensor, random: RandomBatch, vocab_size: int, *, reads_are_free: bool
) -> torch.Tensor:
    """[N] the least probability that top-k, top-p and min-p together keep."""
    if random.needs_top_k or random.needs_top_p:
        threshold_N = _rank_threshold(probs_NV, random, vocab_size, reads_are_free)
    else:
        threshold_N = probs_NV.new_zeros(probs_NV.shape[0])
    if random.needs_min_p:
        least_N = random.min_p.to(probs_NV.dtype) * probs_NV.amax(dim=-1)
        threshold_N = torch.maximum(threshold_N, least_N)
    return threshold_N


def _rank_threshold(probs_NV: torch.Tensor, random: RandomBatch, vocab_size: int, reads_are_free: bool) -> torch.Tensor:
    """[N] the threshold of top-k and top-p.

    The best few tokens settle most rows; rows that need more are looked at again with more. The number of
    tokens looked at does not change a row's bits.
    """
    threshold_N = probs_NV.new_zeros(probs_NV.shape[0])
    # Whether top-p reaches beyond the candidates is seen only in the values. Where reading them would wait
    # for the device, everything is sorted at once.
    sizes = [max(random.max_top_k, 1)]
    if random.has_open_top_p:
        sizes = [size for size in _CANDIDATES if random.max_top_k < size < vocab_size] if reads_are_free else []
        sizes.append(vocab_size)
    rows_M: torch.Tensor | None = None
    for size in sizes:
        values_MV = probs_NV if rows_M is None else probs_NV[rows_M]
        values_MK = _largest(values_MV, size)
        top_k_M = random.top_k if rows_M is None else random.top_k[rows_M]
        top_p_M = random.top_p if rows_M is None else random.top_p[rows_M]
        found_M, is_settled_M = _threshold(values_MK, top_k_M, top_p_M, vocab_size)
        if rows_M is None:
            threshold_N = found_M
        else:
            threshold_N[rows_M] = found_M
        if size == sizes[-1] or bool(is_settled_M.all()):
            break
        unsettled_M = torch.nonzero(~is_settled_M)[:, 0]
        rows_M = unsettled_M if rows_M is None else rows_M[unsettled_M]
    return threshold_N


def _largest(values_MV: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` largest of each row, best first."""
    if count * 8 > values_MV.shape[1]:
        return values_MV.sort(dim=-1, descending=True).values[:, :count]
    return values_MV.topk(count, dim=-1).values


def _threshold(
    values_NK: torch.Tensor, top_k_N: torch.Tensor, top_p_N: torch.Tensor, vocab_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """[N] threshold from the K largest probabilities, best first; [N] whether K were enough to tell."""
    num_candidates = values_NK.shape[1]
    cumulative_NK = values_NK.cumsum(dim=-1, dtype=torch.float64)
    has_top_k_N = top_k_N < vocab_size
    has_top_p_N = top_p_N < 1.0
    kept_N = top_k_N.clamp(max=num_candidates)
    # Top-p is a share of what top-k left; without top-k that is everything.
    mass_N = torch.where(has_top_k_N, cumulative_NK.gather(1, (kept_N - 1)[:, None])[:, 0], 1.0)
    limit_N = torch.where(has_top_p_N, top_p_N * mass_N, torch.inf)
    within_N = ((cumulative_NK - values_NK) < limit_N[:, None]).sum(dim=-1)
    # A row of NaN is within nothing; it must still have an index.
    kept_N = torch.minimum(kept_N, within_N).clamp_(min=1)
    threshold_N = values_NK.gather(1, (kept_N - 1)[:, None])[:, 0]
    threshold_N = torch.where(has_top_k_N | has_top_p_N, threshold_N, 0.0)
    is_settled_N = torch.where(has_top_k_N, top_k_N <= num_candidates, ~has_top_p_N | (within_N < num_candidates))
    return threshold_N, is_settled_N


def draw(probs_NV: torch.Tensor, uniform_N: torch.Tensor) -> torch.Tensor:
    """[N] the token at which the running sum of ``probs_NV`` (not normalised, V in whole blocks) passes
    ``uniform_N`` (float64 in [0, 1)) of its total. Never a token of probability zero."""
    blocks_NBK = probs_NV.view(probs_NV.shape[0], -1, _BLOCK)
    sums_NB = blocks_NBK.sum(dim=-1).to(torch.float64)
    block_N, share_N = _invert(sums_NB, uniform_N)
    # The share of the block, not its remainder: the block's own running sum may round otherwise.
    chosen_NK = blocks_NBK[torch.arange(block_N.shape[0], device=block_N.device), block_N]
    inner_N, _ = _invert(chosen_NK.to(torch.float64), share_N)
    return block_N * _BLOCK + inner_N


def _invert(weights_NK: torch.Tensor, uniform_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """([N] index where the running sum passes ``uniform_N`` of the total, [N] how far into that entry)."""
    cumulative_NK = weights_NK.cumsum(dim=-1)
    target_N1 = (uniform_N * cumulative_NK[:, -1])[:, None]
    index_N1 = torch.searchsorted(cumulative_NK, target_N1, right=True).clamp_(max=weights_NK.shape[1] - 1)
    weight_N1 = weights_NK.gather(1, index_N1)
    before_N1 = cumulative_NK.gather(1, index_N1) - weight_N1
    share_N1 = ((target_N1 - before_N1) / weight_N1).clamp_(0.0, 1.0 - 2.0**-53)
    return index_N1[:, 0], share_N1[:, 0]


def _apply_edits(logits_SV: torch.Tensor, edits: LogitEdits) -> None:
    places = (edits.rows, edits.ids)
    logits_SV.index_put_(places, edits.values.to(logits_SV.dtype), accumulate=True)


def _apply_processors(logits_SV: torch.Tensor, processed: Sequence[tuple[int, RowDetails]]) -> dict[int, str]:
    """Run the named processors of each row; what one raises is the fault of its row alone."""
    errors: dict[int, str] = {}
    for row, details in processed:
        for processor, params in details.processors:
            try:
                processor.apply(logits_SV[row], params, details.prompt_ids, details.output_ids)
            except Exception as exc:
                errors[row] = f"logits processor {type(processor).__name__} failed: {type(exc).__name__}: {exc}"
    return errors
