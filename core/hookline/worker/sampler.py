"""Sampler: logits to tokens.

Order: penalties, logit bias and held-back end tokens, logits processors, grammar mask last (so that nothing
reopens a masked token); then the most probable token, or temperature, top-k, top-p, min-p and a draw at one
number per row, made on the host from (seed, choice, position).

Every row is computed by itself: the same row gives the same token whatever rows lie beside it. What the filters
keep and how the draw goes is defined by the ops in ``hookline.layers.sampling``.

Shape letters: S sampled rows, N of them random, C constrained, V vocabulary, W words of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from hookline.layers.ops import APPLY_BITMASK, ARGMAX, SAMPLE_TOKENS, Ops
from hookline.worker.penalties import PenaltyTable
from hookline.worker.sampling_batch import LogitEdits, RandomBatch, SamplingBatch
from hookline.worker.sampling_rows import RowDetails


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

    def __init__(self, penalties: PenaltyTable, ops: Ops) -> None:
        self._penalties = penalties
        self._argmax = ops.request(ARGMAX)
        self._apply_bitmask = ops.request(APPLY_BITMASK)
        self._sample_tokens = ops.request(SAMPLE_TOKENS)

    def sample(self, logits_SV: torch.Tensor, batch: SamplingBatch, bitmask_CW: torch.Tensor | None = None) -> Sampled:
        """Tokens for all rows; ``logits_SV`` float32 are changed in place.

        ``bitmask_CW`` int32 on the host (copied from there without waiting) has a row for each of
        ``batch.constrained``; bit i % 32 of word i // 32 is set where token i is allowed.
        """
        if batch.penalties is not None:
            self._penalties.apply(logits_SV, batch.penalties)
        if batch.edits is not None:
            _apply_edits(logits_SV, batch.edits)
        errors = _apply_processors(logits_SV, batch.processed)
        if batch.constrained is not None and bitmask_CW is not None:
            words_CW = bitmask_CW.to(logits_SV.device, non_blocking=True)
            logits_SV = self._apply_bitmask(logits_SV, batch.constrained, words_CW)
        best_S, token_ids_S = self._argmax(logits_SV)
        if batch.random is not None:
            token_ids_S = self._draw_into(token_ids_S, logits_SV, best_S, batch.random)
        if batch.penalties is not None:
            self._penalties.count(batch.penalties, token_ids_S)
        return Sampled(token_ids=token_ids_S, best=best_S, errors=errors)

    def _draw_into(
        self, token_ids_S: torch.Tensor, logits_SV: torch.Tensor, best_S: torch.Tensor, random: RandomBatch
    ) -> torch.Tensor:
        drawn_N = self._sample_tokens(
            logits_SV,
            best_S,
            random.index,
            random.temperature,
            random.top_k,
            random.top_p,
            random.min_p,
            random.uniform,
            random.num_candidates,
        )
        if random.index is None:
            return drawn_N
        token_ids_S[random.index] = drawn_N
        return token_ids_S


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
