"""Penalties: which tokens a request has seen, counted on the device right after each token is sampled.

Shape letters: N penalised requests of a pass, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

#: Set in the count of a token that occurs in the prompt; the bits below count its occurrences in the output.
_IN_PROMPT = 1 << 30
_COUNT_MASK = _IN_PROMPT - 1
_FIRST_CAPACITY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltyReset:
    """Counts of requests that (re)start, as flat host arrays: slots to clear, then values to write."""

    slots: npt.NDArray[np.int64]
    #: slot * V + token id, and the count that goes there.
    places: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltyBatch:
    """Penalised requests of one pass."""

    #: [N] index into the rows that are sampled, or ``None`` when all are penalised.
    index: torch.Tensor | None
    #: [N] slots of the count table.
    slots: torch.Tensor
    #: [N] float64 factors; ``None`` when no request of the pass has that penalty.
    repetition: torch.Tensor | None
    frequency: torch.Tensor | None
    presence: torch.Tensor | None


class PenaltySlots:
    """Host side: which slot of the count table each row has. Slots are few: most requests have no penalty."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._free: list[int] = []
        self._slot_of: dict[int, int] = {}
        #: Slots that were ever given; the table must be that large.
        self.num_slots = 0

    def assign(self, row: int) -> int:
        """The slot of a row, given now if it has none."""
        slot = self._slot_of.get(row)
        if slot is None:
            if self._free:
                slot = self._free.pop()
            else:
                slot = self.num_slots
                self.num_slots += 1
            self._slot_of[row] = slot
        return slot

    def release(self, row: int) -> None:
        """Take back the slot of a row, if it has one."""
        slot = self._slot_of.pop(row, None)
        if slot is not None:
            self._free.append(slot)

    def reset(self, starts: Sequence[tuple[int, Sequence[int], Sequence[int]]]) -> PenaltyReset:
        """The counts of (slot, prompt ids, output ids) of requests that start or start again."""
        slots = np.array([slot for slot, _, _ in starts], dtype=np.int64)
        places, values = [], []
        for slot, prompt_ids, output_ids in starts:
            ids, counts = self._count(prompt_ids, output_ids)
            places.append(slot * self._vocab_size + ids)
            values.append(counts)
        return PenaltyReset(slots=slots, places=np.concatenate(places), values=np.concatenate(values))

    def _count(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        prompt = np.unique(np.asarray(prompt_ids, dtype=np.int64))
        output, counts = np.unique(np.asarray(output_ids, dtype=np.int64), return_counts=True)
        # Placeholder ids of media lie above the vocabulary and are nothing to penalise.
        prompt = prompt[prompt < self._vocab_size]
        counts = counts[output < self._vocab_size].astype(np.int64)
        output = output[output < self._vocab_size]
        ids = np.union1d(prompt, output)
        values = np.zeros(ids.size, dtype=np.int64)
        values[np.searchsorted(ids, output)] = counts
        values[np.searchsorted(ids, prompt)] += _IN_PROMPT
        return ids, values


class PenaltyTable:
    """Device side: [slots, V] int32 counts. All calls run in the work queue, in the order of the passes."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._counts = torch.zeros((0, vocab_size), dtype=torch.int32, device=device)

    def reset(self, num_slots: int, slots: torch.Tensor, places: torch.Tensor, values: torch.Tensor) -> None:
        """Start the counts of ``slots``; ``places`` and ``values`` as in ``PenaltyReset``."""
        self._reserve(num_slots)
        self._counts[slots] = 0
        self._counts.view(-1)[places] = values.to(torch.int32)

    def apply(self, logits_SV: torch.Tensor, batch: PenaltyBatch) -> None:
        """Repetition, then frequency and presence, in place on float32 logits."""
        counts_NV = self._counts[batch.slots]
        scores_NV = logits_SV if batch.index is None else logits_SV[batch.index]
        if batch.repetition is not None:
            factor = batch.repetition.to(scores_NV.dtype)[:, None]
            penalised = torch.where(scores_NV < 0, scores_NV * factor, scores_NV / factor)
            scores_NV = torch.where(counts_NV > 0, penalised, scores_NV)
        if batch.frequency is not None or batch.presence is not None:
            occurrences = counts_NV & _COUNT_MASK
            if batch.frequency is not None:
                scores_NV = scores_NV - occurrences * batch.frequency.to(scores_NV.dtype)[:, None]
            if batch.presence is not None:
                scores_NV = scores_NV - (occurrences > 0) * batch.presence.to(scores_NV.dtype)[:, None]
        if batch.index is None:
            logits_SV.copy_(scores_NV)
        else:
            logits_SV[batch.index] = scores_NV

    def count(self, batch: PenaltyBatch, tokens_S: torch.Tensor) -> None:
        """Add the tokens that were just sampled."""
        tokens = tokens_S if batch.index is None else tokens_S[batch.index]
        self._counts[batch.slots, tokens] += 1

    def _reserve(self, num_slots: int) -> None:
        capacity = self._counts.shape[0]
        if num_slots <= capacity:
            return
        grown = self._counts.new_zeros((max(_FIRST_CAPACITY, 2 * capacity, num_slots), self._counts.shape[1]))
        grown[:capacity] = self._counts
        self._counts = grown
