"""SamplingRows: sampling settings of every request row, in columns on the host.

A pass picks its rows from the columns, so its cost in Python does not grow with the settings in use. What
depends on sampled tokens (penalty counts) lives on the device instead; see ``penalties``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hookline.batch.worker_batch import SamplingRow
from hookline.errors import RequestError
from hookline.interfaces.logits import LogitsProcessor
from hookline.sampling_params import SamplingParams
from hookline.worker.penalties import PenaltySlots
from hookline.worker.random_keys import request_key

#: Largest finite bias: an infinite one would turn a logit into NaN.
_MAX_BIAS = 3.0e38
#: Seeds of requests without one that are remembered, so that a retracted request gets the same again.
_REMEMBERED_SEEDS = 16384


@dataclass(slots=True, kw_only=True)
class RowDetails:
    """What only some requests have: kept by row outside the columns."""

    #: Token id -> value added to its logit.
    bias_ids: npt.NDArray[np.int64]
    bias_values: npt.NDArray[np.float64]
    #: Tokens that min_new_tokens holds back.
    end_ids: npt.NDArray[np.int64]
    #: Processors in the order of the request, with their checked parameters.
    processors: list[tuple[LogitsProcessor, Any]] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=list)
    #: Exact output so far; grows on the device's side of the queue, only if there are processors.
    output_ids: list[int] = field(default_factory=list)


class SamplingRows:
    """Sampling settings by request row. Used by the thread that launches passes.

    ``processors`` are the logits processors that requests may name. Requests without a seed get one from
    ``seed`` and the order in which they first came.
    """

    def __init__(
        self, num_rows: int, vocab_size: int, *, seed: int = 0, processors: Mapping[str, LogitsProcessor] | None = None
    ) -> None:
        self.vocab_size = vocab_size
        self._seed = seed
        self._processors = dict(processors or {})
        self._num_unseeded = 0
        self._remembered: dict[str, int] = {}
        self.penalty_slots = PenaltySlots(vocab_size)
        self.temperature = np.ones(num_rows)
        self.top_k = np.full(num_rows, vocab_size, dtype=np.int64)
        self.top_p = np.ones(num_rows)
        self.min_p = np.zeros(num_rows)
        self.repetition = np.ones(num_rows)
        self.frequency = np.zeros(num_rows)
        self.presence = np.zeros(num_rows)
        #: Key of the request's random numbers.
        self.key = np.zeros(num_rows, dtype=np.uint64)
        #: A random token is drawn (the opposite of greedy).
        self.is_random = np.zeros(num_rows, dtype=bool)
        #: Slot of the penalty counts, or -1.
        self.penalty_slot = np.full(num_rows, -1, dtype=np.int64)
        #: Sequence length below which end tokens are held back.
        self.held_below = np.zeros(num_rows, dtype=np.int64)
        self.has_bias = np.zeros(num_rows, dtype=bool)
        self.has_processors = np.zeros(num_rows, dtype=bool)
        self.details: dict[int, RowDetails] = {}
        #: Row -> what is wrong with its request's settings; it fails when it is sampled.
        self.errors: dict[int, str] = {}

    def start(self, start: SamplingRow, rid: str) -> None:
        """Set up a row for a request that starts, or starts again after a retraction."""
        row, params = start.row, start.params
        self.release(row)
        self.temperature[row] = params.temperature
        self.top_k[row] = params.top_k if params.top_k > 0 else self.vocab_size
        self.top_p[row] = params.top_p
        self.min_p[row] = params.min_p
        self.is_random[row] = not params.is_greedy
        seed = params.seed
        if seed is None:
            seed = self._own_seed(rid, is_restart=bool(start.output_ids))
        self.key[row] = request_key(seed, start.choice_index, seeded=params.seed is not None)
        self.held_below[row] = len(start.prompt_ids) + params.min_new_tokens if params.min_new_tokens else 0
        self._start_penalties(row, params)
        if params.logit_bias or params.logits_processors or params.min_new_tokens:
            self._start_details(start)

    def release(self, row: int) -> None:
        """Forget a row that was given back."""
        if self.penalty_slot[row] >= 0:
            self.penalty_slots.release(row)
            self.penalty_slot[row] = -1
        if self.details.pop(row, None) is not None:
            self.has_bias[row] = False
            self.has_processors[row] = False
        self.held_below[row] = 0
        self.errors.pop(row, None)

    def _own_seed(self, rid: str, *, is_restart: bool) -> int:
        """A seed for a request without one; the same again when the request comes back with output."""
        ordinal = self._remembered.get(rid) if is_restart else None
        if ordinal is None:
            ordinal = self._num_unseeded
            self._num_unseeded += 1
            self._remembered.pop(rid, None)
            self._remembered[rid] = ordinal
            if len(self._remembered) > _REMEMBERED_SEEDS:
                del self._remembered[next(iter(self._remembered))]
        return (self._seed << 32) + ordinal

    def _start_penalties(self, row: int, params: SamplingParams) -> None:
        self.repetition[row] = params.repetition_penalty
        self.frequency[row] = params.frequency_penalty
        self.presence[row] = params.presence_penalty
        if params.repetition_penalty != 1.0 or params.frequency_penalty or params.presence_penalty:
            self.penalty_slot[row] = self.penalty_slots.assign(row)

    def _start_details(self, start: SamplingRow) -> None:
        row, params = start.row, start.params
        bias = params.logit_bias or {}
        details = RowDetails(
            bias_ids=np.fromiter(bias.keys(), dtype=np.int64, count=len(bias)),
            bias_values=np.minimum(np.fromiter(bias.values(), dtype=np.float64, count=len(bias)), _MAX_BIAS),
            end_ids=np.array([token for token in start.end_token_ids if token < self.vocab_size], dtype=np.int64),
        )
        beyond = details.bias_ids[details.bias_ids >= self.vocab_size]
        if beyond.size:
            self.errors[row] = f"logit_bias names token {beyond[0]}, but the vocabulary has {self.vocab_size}"
            details.bias_ids = details.bias_ids[:0]
            details.bias_values = details.bias_values[:0]
        for name, raw in (params.logits_processors or {}).items():
            self._add_processor(row, details, name, raw)
        if details.processors:
            details.prompt_ids = list(start.prompt_ids)
            details.output_ids = list(start.output_ids)
        self.has_bias[row] = details.bias_ids.size > 0
        self.has_processors[row] = bool(details.processors)
        self.details[row] = details

    def _add_processor(self, row: int, details: RowDetails, name: str, raw: Any) -> None:
        processor = self._processors.get(name)
        if processor is None:
            known = ", ".join(sorted(self._processors)) or "none"
            self.errors[row] = f"unknown logits processor '{name}' (known: {known})"
            return
        try:
            details.processors.append((processor, processor.validate(raw, self.vocab_size)))
        except RequestError as exc:
            self.errors[row] = f"logits processor '{name}': {exc}"
