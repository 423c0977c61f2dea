"""WorkerDriver: plays the scheduler for tests of the worker, with slots handed out at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import LogprobSpec, ModelWorkerBatch, PoolingSpec, SamplingRow
from hookline.interfaces.worker import Step, StepResult, Worker
from hookline.sampling_params import SamplingParams

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=64)


@dataclass(slots=True, eq=False)
class DrivenRequest:
    """A request that holds a row."""

    rid: str
    row: int
    prompt: list[int]
    params: SamplingParams
    choice_index: int = 0
    end_ids: tuple[int, ...] = ()
    logprobs: LogprobSpec | None = None
    pooling: PoolingSpec | None = None
    adapter: int = 0
    #: Tokens that are known to the host, prompt first.
    tokens: list[int] = field(default_factory=list)
    #: Tokens whose KV is there or being computed.
    computed: int = 0
    #: Tokens sampled so far, known or not.
    sampled: int = 0
    is_new: bool = True
    slots: list[int] = field(default_factory=list)

    @property
    def output(self) -> list[int]:
        return self.tokens[len(self.prompt) :]


class WorkerDriver:
    """Builds passes by hand and reads their results."""

    def __init__(self, worker: Worker, *, seed: int = 0) -> None:
        self.worker = worker
        self._info = worker.info
        self._rows = list(range(self._info.max_running_requests - 1, -1, -1))
        page = self._info.page_size
        self._pages = list(range(1, self._info.max_total_tokens // page + 1))
        random.Random(seed).shuffle(self._pages)
        self._freed: list[int] = []
        self._step = 0

    def start(
        self,
        rid: str,
        prompt: Sequence[int],
        params: SamplingParams = GREEDY,
        *,
        output: Sequence[int] = (),
        choice_index: int = 0,
        end_ids: Sequence[int] = (),
        logprobs: LogprobSpec | None = None,
        pooling: PoolingSpec | None = None,
        adapter: int = 0,
    ) -> DrivenRequest:
        """A request; with ``output`` one that comes back after a retraction."""
        return DrivenRequest(
            rid,
            self._rows.pop(),
            list(prompt),
            params,
            choice_index=choice_index,
            end_ids=tuple(end_ids),
            logprobs=logprobs,
            pooling=pooling,
            adapter=adapter,
            tokens=[*prompt, *output],
            sampled=len(output),
        )

    def free(self, sequence: DrivenRequest) -> None:
        """Give back row and slots; whoever comes next gets them first."""
        page = self._info.page_size
        self._pages += sorted({slot // page for slot in sequence.slots})
        self._rows.append(sequence.row)
        self._freed.append(sequence.row)

    def extend(
        self,
        sequences: Sequence[DrivenRequest],
        counts: Sequence[int] | None = None,
        *,
        decodes: Sequence[DrivenRequest] = (),
        constrained: Sequence[DrivenRequest] = (),
    ) -> Step:
        """Launch a prefill of ``counts`` more tokens of each (default: all), with ``decodes`` a mixed pass."""
        pending = [len(sequence.tokens) - sequence.computed for sequence in sequences]
        counts = list(counts or pending)
        mode = ForwardMode.MIXED if decodes else ForwardMode.EXTEND
        samples = [
            count == left and sequence.pooling is None
            for sequence, count, left in zip(sequences, counts, pending, strict=True)
        ]
        return self._launch(mode, sequences, counts, samples, decodes, constrained)

    def decode(self, sequences: Sequence[DrivenRequest], *, constrained: Sequence[DrivenRequest] = ()) -> Step:
        """Launch a decode; the inputs are the tokens sampled last, known or not."""
        return self._launch(ForwardMode.DECODE, [], [], [], sequences, constrained)

    def read(self, step: Step, sequences: Sequence[DrivenRequest]) -> StepResult:
        """Wait for a pass over ``sequences`` and append its tokens."""
        result = step.result()
        for sequence, token_ids in zip(sequences, result.token_ids, strict=True):
            sequence.tokens.extend(token_ids)
        return result

    def generate(self, sequences: Sequence[DrivenRequest], num_tokens: int) -> None:
        """Prefill and decode until each has ``num_tokens`` new tokens."""
        self.read(self.extend(sequences), sequences)
        for _ in range(num_tokens - 1):
            self.read(self.decode(sequences), sequences)

    def _launch(
        self,
        mode: ForwardMode,
        extends: Sequence[DrivenRequest],
        counts: Sequence[int],
        samples: Sequence[bool],
        decodes: Sequence[DrivenRequest],
        constrained: Sequence[DrivenRequest],
    ) -> Step:
        sequences = [*extends, *decodes]
        lens = [*counts, *(1 for _ in decodes)]
        prefix_lens = np.array([sequence.computed for sequence in sequences], dtype=np.int64)
        input_ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        future_index: list[int] = []
        for i, (sequence, count) in enumerate(zip(sequences, lens, strict=True)):
            if i >= len(extends):
                future_index.append(len(input_ids))
                input_ids.append(0)
            else:
                input_ids.extend(sequence.tokens[sequence.computed : sequence.computed + count])
            positions.extend(range(sequence.computed, sequence.computed + count))
            slots.extend(self._slots(sequence, count))
            sequence.computed += count
        all_samples = [*samples, *(True for _ in decodes)]
        new_rows = [_sampling_row(sequence) for sequence in sequences if sequence.is_new]
        for sequence, samples_one in zip(sequences, all_samples, strict=True):
            sequence.is_new = False
            sequence.sampled += samples_one
        self._step += 1
        freed, self._freed = self._freed, []
        batch = ModelWorkerBatch(
            step=self._step,
            mode=mode,
            rids=[sequence.rid for sequence in sequences],
            req_pool_indices=_array([sequence.row for sequence in sequences]),
            seq_lens=prefix_lens + _array(lens),
            prefix_lens=prefix_lens,
            input_ids=_array(input_ids),
            future_index=_array(future_index),
            future_rows=_array([sequence.row for sequence in decodes]),
            positions=np.tile(_array(positions), (self._info.position_planes, 1)),
            out_cache_loc=_array(slots),
            table_rows=_array([]),
            table_cols=_array([]),
            table_slots=_array([]),
            samples=all_samples,
            new_rows=new_rows,
            freed_rows=freed,
            adapters=[sequence.adapter for sequence in sequences] if any(s.adapter for s in sequences) else None,
            logprobs=[sequence.logprobs for sequence in sequences] if any(s.logprobs for s in sequences) else None,
            pooling=[sequence.pooling for sequence in sequences] if any(s.pooling for s in sequences) else None,
            constrained=[i for i, sequence in enumerate(sequences) if sequence in constrained],
        )
        return self.worker.launch(batch)

    def _slots(self, sequence: DrivenRequest, count: int) -> list[int]:
        page = self._info.page_size
        while len(sequence.slots) < sequence.computed + count:
            first = self._pages.pop() * page
            sequence.slots.extend(range(first, first + page))
        return sequence.slots[sequence.computed : sequence.computed + count]


def _sampling_row(sequence: DrivenRequest) -> SamplingRow:
    return SamplingRow(
        row=sequence.row,
        params=sequence.params,
        choice_index=sequence.choice_index,
        prompt_ids=tuple(sequence.prompt),
        output_ids=tuple(sequence.output),
        end_token_ids=sequence.end_ids,
    )


def _array(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
