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
    #: V where off.
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    #: In [0, 1), float64.
    uniform: torch.Tensor
    #: On the host: whether any row has the filter, and the largest top_k in use.
    needs_top_k: bool
    needs_top_p: bool
    needs_min_p: bool
    max_top_k: int
    #: Whether a row has top-p but no top-k, so that its candidates are not bounded.
    has_open_top_p: bool


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
    top_k: int
    top_p: int
    min_p: int
    uniform: int
    needs_top_k: bool
    needs_top_p: bool
    needs_min_p: bool
    max_top_k: int
    has_open_top_p: bool

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
        return _RandomPlan(
            index=index,
            temperature=pack.put(settings.temperature[rows]),
            top_k=pack.put(top_k),
            top_p=pack.put(top_p),
            min_p=pack.put(min_p),
            uniform=pack.put(uniforms(settings.key[rows], seq_lens)),
            needs_top_k=bool(has_top_k.any()),
            needs_top_p=bool(has_top_p.any()),
            needs_min_p=bool((min_p > 0.0).any()),
            max_top_k=int(top_k[has_top_k].max(initial=0)),
            has_open_top_p=bool((has_top_p & ~has_top_k).any()),
        )

    def batch(self, tensors: Sequence[torch.Tensor]) -> RandomBatch:
        return RandomBatch(
            index=None if self.index is None else tensors[self.index],
            temperature=tensors[self.temperature],
            top_k=tensors[self.top_k],
            top_p=tensors[self.top_p],
            min_p=tensors[self.min_p],
            uniform=tensors[self.uniform],
            needs_top_k=self.needs_top_k,
            needs_top_p=self.needs_top_p,
            needs_min_p=self.needs_min_p,
            max_top_k=self.max_top_k,
            has_open_top_p=self.has_open_top_p,
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
