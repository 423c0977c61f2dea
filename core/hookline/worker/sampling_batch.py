"""SamplingBatch: what the sampler needs for the rows of one pass.

``SamplingPlan`` picks it from the request rows on the host and puts it into the pass's pack;
``SamplingPlan.batch`` finds it again on the device. Shape letters: S sampled rows, V vocabulary,
N rows that a setting concerns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hookline.worker.packing import HostPack
from hookline.worker.penalties import PenaltyBatch
from hookline.worker.random_keys import uniforms
from hookline.worker.sampling_rows import RowDetails, SamplingRows

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomBatch:
    """Rows whose token is drawn at random. Arrays are [N]."""

    #: Index into S, or ``None`` when all rows are random.
    index: torch.Tensor | None
    temperature: torch.Tensor
    #: A filter is ``None`` where no row has it. Off for a row: V.
    top_k: torch.Tensor | None
    #: Off for a row: 1.0.
    top_p: torch.Tensor | None
    #: Off for a row: 0.0.
    min_p: torch.Tensor | None
    #: In [0, 1), float64.
    uniform: torch.Tensor
    #: On the host: the largest top-k in use, or V if a row has top-p but no top-k.
    num_candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitEdits:
    """Values added to single logits: biases, and minus infinity for end tokens that are held back. [E] each."""

    rows: torch.Tensor
    ids: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingBatch:
    """The settings of one pass on the device; a part is ``None`` when no row needs it."""

    random: RandomBatch | None
    penalties: PenaltyBatch | None
    edits: LogitEdits | None
    #: (index into S, details) of rows with logits processors.
    processed: Sequence[tuple[int, RowDetails]]
    #: Index into S of the rows whose masks are given, in the order of the masks.
    constrained: torch.Tensor | None


class SamplingPlan:
    """Picks the settings of ``rows`` [S], whose sequences have ``seq_lens`` [S] tokens before the new one.

    Fixed when made: rows may be given to other requests before the pass runs.
    """

    def __init__(
        self, settings: SamplingRows, rows: IntArray, seq_lens: IntArray, constrained: IntArray, pack: HostPack
    ) -> None:
        self._random = _RandomPlan.pick(settings, rows, seq_lens, pack)
        self._penalties = _PenaltyPlan.pick(settings, rows, pack)
        self._edits = _plan_edits(settings, rows, seq_lens, pack)
        self._processed = [
            (int(i), settings.details[int(rows[i])]) for i in np.flatnonzero(settings.has_processors[rows])
        ]
        self._constrained = pack.put(constrained) if constrained.size else None

    @property
    def is_greedy(self) -> bool:
        """Whether every row takes the token of its largest logit as the model gives them."""
        return not self._processed and all(
            part is None for part in (self._random, self._penalties, self._edits, self._constrained)
        )

    def batch(self, tensors: Sequence[torch.Tensor]) -> SamplingBatch:
        """The settings on the device, from the tensors of the pack."""
        edits = None
        if self._edits is not None:
            rows, ids, values = (tensors[place] for place in self._edits)
            edits = LogitEdits(rows=rows, ids=ids, values=values)
        return SamplingBatch(
            random=None if self._random is None else self._random.batch(tensors),
            penalties=None if self._penalties is None else self._penalties.batch(tensors),
            edits=edits,
            processed=self._processed,
            constrained=None if self._constrained is None else tensors[self._constrained],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _RandomPlan:
    """Places in the pack."""

    index: int | None
    temperature: int
    top_k: int | None
    top_p: int | None
    min_p: int | None
    uniform: int
    num_candidates: int

    @staticmethod
    def pick(settings: SamplingRows, rows: IntArray, seq_lens: IntArray, pack: HostPack) -> _RandomPlan | None:
        is_random = settings.is_random[rows]
        if not is_random.any():
            return None
        index = None
        if not is_random.all():
            chosen = np.flatnonzero(is_random)
            index = pack.put(chosen)
            rows, seq_lens = rows[chosen], seq_lens[chosen]
        top_k, top_p, min_p = settings.top_k[rows], settings.top_p[rows], settings.min_p[rows]
        has_top_k, has_top_p = top_k < settings.vocab_size, top_p < 1.0
        is_open = bool((has_top_p & ~has_top_k).any())
        return _RandomPlan(
            index=index,
            temperature=pack.put(settings.temperature[rows]),
            top_k=pack.put(top_k) if has_top_k.any() else None,
            top_p=pack.put(top_p) if has_top_p.any() else None,
            min_p=pack.put(min_p) if (min_p > 0.0).any() else None,
            uniform=pack.put(uniforms(settings.key[rows], seq_lens)),
            num_candidates=settings.vocab_size if is_open else int(top_k[has_top_k].max(initial=0)),
        )

    def batch(self, tensors: Sequence[torch.Tensor]) -> RandomBatch:
        return RandomBatch(
            index=None if self.index is None else tensors[self.index],
            temperature=tensors[self.temperature],
            top_k=None if self.top_k is None else tensors[self.top_k],
            top_p=None if self.top_p is None else tensors[self.top_p],
            min_p=None if self.min_p is None else tensors[self.min_p],
            uniform=tensors[self.uniform],
            num_candidates=self.num_candidates,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PenaltyPlan:
    """Places in the pack."""

    index: int | None
    slots: int
    repetition: int | None
    frequency: int | None
    presence: int | None

    @staticmethod
    def pick(settings: SamplingRows, rows: IntArray, pack: HostPack) -> _PenaltyPlan | None:
        slots = settings.penalty_slot[rows]
        has_penalty = slots >= 0
        if not has_penalty.any():
            return None
        index = None
        if not has_penalty.all():
            chosen = np.flatnonzero(has_penalty)
            index = pack.put(chosen)
            rows, slots = rows[chosen], slots[chosen]
        repetition, frequency, presence = settings.repetition[rows], settings.frequency[rows], settings.presence[rows]
        return _PenaltyPlan(
            index=index,
            slots=pack.put(slots),
            repetition=pack.put(repetition) if (repetition != 1.0).any() else None,
            frequency=pack.put(frequency) if frequency.any() else None,
            presence=pack.put(presence) if presence.any() else None,
        )

    def batch(self, tensors: Sequence[torch.Tensor]) -> PenaltyBatch:
        return PenaltyBatch(
            index=None if self.index is None else tensors[self.index],
            slots=tensors[self.slots],
            repetition=None if self.repetition is None else tensors[self.repetition],
            frequency=None if self.frequency is None else tensors[self.frequency],
            presence=None if self.presence is None else tensors[self.presence],
        )


def _plan_edits(
    settings: SamplingRows, rows: IntArray, seq_lens: IntArray, pack: HostPack
) -> tuple[int, int, int] | None:
    """Places of the edits' rows, ids and values; the loop visits only rows that have any."""
    is_held = seq_lens < settings.held_below[rows]
    edited = np.flatnonzero(settings.has_bias[rows] | is_held)
    if not edited.size:
        return None
    parts: list[tuple[int, IntArray, FloatArray]] = []
    for i in edited.tolist():
        details = settings.details[int(rows[i])]
        if details.bias_ids.size:
            parts.append((i, details.bias_ids, details.bias_values))
        if is_held[i] and details.end_ids.size:
            parts.append((i, details.end_ids, np.full(details.end_ids.size, -np.inf)))
    if not parts:
        return None
    counts = [ids.size for _, ids, _ in parts]
    return (
        pack.put(np.repeat(np.array([i for i, _, _ in parts], dtype=np.int64), counts)),
        pack.put(np.concatenate([ids for _, ids, _ in parts])),
        pack.put(np.concatenate([values for _, _, values in parts])),
    )
