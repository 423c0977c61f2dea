"""DecodeGraphs: decode passes captured as device graphs, one for each of a ladder of batch sizes.

A replay launches a whole pass at once, so that the device never waits for Python. Passes of other sizes are padded
to the next rung: padding requests lie in a row of the table of their own, whose slots are all the sink.

Shape letters: B requests (one token each), P position planes, H hidden, V vocabulary.
"""

from __future__ import annotations

import bisect
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hookline.batch.forward_batch import AttentionGeometry, ForwardBatch
from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.platform import Graph, Platform
from hookline.worker.forward_inputs import ForwardTensors
from hookline.worker.model_runner import ModelRunner

logger = logging.getLogger(__name__)

#: Largest batch that is captured unless the config says otherwise.
LARGEST_GRAPH = 256


def ladder(largest: int) -> list[int]:
    """Batch sizes to capture up to ``largest``, which is one of them: close together where passes are short."""
    rungs = [1, 2, 4, 8, 12, 16, *range(24, 129, 8), *range(144, 257, 16), *range(288, largest + 1, 32)]
    return [*(rung for rung in rungs if rung < largest), largest]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOutput:
    """What a captured pass leaves; overwritten by the next replay."""

    #: [B, H].
    hidden: torch.Tensor
    #: [B, V] float32.
    logits: torch.Tensor


class _Inputs:
    """The tensors that captured passes read, for the largest batch; smaller ones read the beginning."""

    def __init__(self, platform: Platform, size: int, position_planes: int, pad_row: int) -> None:
        self._pad_row = pad_row
        #: [5 + P, B]: ids, rows, lengths, prefix lengths, slots, positions.
        self._all = platform.zeros((5 + position_planes, size), torch.int64)
        self.input_ids, self.rows, self.seq_lens, self.prefix_lens, self.out_cache_loc = self._all[:5]
        self.positions = self._all[5:]
        self.clear(0, size)

    def clear(self, start: int, end: int) -> None:
        """Make padding of the places from ``start`` to ``end``: one token in the sink."""
        self._all[:, start:end] = 0
        self.rows[start:end] = self._pad_row
        self.seq_lens[start:end] = 1

    def fill(self, tensors: ForwardTensors) -> None:
        """Copy a pass to the beginning."""
        count = tensors.input_ids.shape[0]
        self.positions[:, :count] = tensors.positions
        self.input_ids[:count] = tensors.input_ids
        self.rows[:count] = tensors.req_pool_indices
        self.seq_lens[:count] = tensors.seq_lens
        self.prefix_lens[:count] = tensors.prefix_lens
        self.out_cache_loc[:count] = tensors.out_cache_loc


class DecodeGraphs:
    """Captures decode passes of a ``ModelRunner`` and replays them. All methods run in the work queue."""

    def __init__(
        self, runner: ModelRunner, platform: Platform, sizes: Sequence[int], *, position_planes: int, pad_row: int
    ) -> None:
        """``pad_row`` is a row of the table that belongs to no request and holds zeros."""
        self._runner = runner
        self._platform = platform
        self._sizes = sorted(sizes)
        self._inputs = _Inputs(platform, self._sizes[-1], position_planes, pad_row)
        self._graphs: dict[int, Graph[DecodeOutput]] = {}
        #: Places of the inputs that may hold something else than padding.
        self._used = 0

    @property
    def sizes(self) -> list[int]:
        """Batch sizes with a graph."""
        return sorted(self._graphs)

    def capture(self) -> None:
        """Capture every size, the largest first, so that the smaller ones fit into its memory."""
        begun = time.monotonic()
        self._graphs.clear()
        for size in reversed(self._sizes):
            self._graphs[size] = self._capture(size)
        seconds = time.monotonic() - begun
        logger.info("captured decodes of %d batch sizes up to %d in %.1f s", len(self._sizes), self._sizes[-1], seconds)

    def fits(self, batch: ModelWorkerBatch) -> bool:
        """Whether a pass can be replayed: a plain decode that is not too large."""
        return (
            bool(self._graphs)
            and batch.mode is ForwardMode.DECODE
            and batch.batch_size <= self._sizes[-1]
            and batch.adapters is None
            and not batch.extras
        )

    def replay(self, tensors: ForwardTensors) -> DecodeOutput:
        """Run a pass whose ``input_ids`` are filled in and whose slots are in the table."""
        count = tensors.input_ids.shape[0]
        size = self._sizes[bisect.bisect_left(self._sizes, count)]
        self._inputs.fill(tensors)
        if count < min(size, self._used):
            self._inputs.clear(count, min(size, self._used))
        self._used = max(count, self._used if size < self._used else 0)
        output = self._graphs[size].replay()
        return DecodeOutput(hidden=output.hidden[:count], logits=output.logits[:count])

    def _capture(self, size: int) -> Graph[DecodeOutput]:
        runner, inputs = self._runner, self._inputs
        longest = runner.req_to_token.shape[1]
        geometry = AttentionGeometry(
            mode=ForwardMode.DECODE,
            req_to_token=runner.req_to_token,
            req_pool_indices=inputs.rows[:size],
            seq_lens=inputs.seq_lens[:size],
            prefix_lens=inputs.prefix_lens[:size],
            # A plan for the longest requests holds for all shorter ones: the feature "graphs" promises it.
            seq_lens_cpu=[longest] * size,
            prefix_lens_cpu=[longest - 1] * size,
            extend_lens_cpu=[1] * size,
            out_cache_loc=inputs.out_cache_loc[:size],
            page_size=runner.kv.page_size,
        )
        plan = runner.attention.plan(geometry)
        index = torch.arange(size, device=self._platform.device)
        batch = ForwardBatch(
            mode=ForwardMode.DECODE,
            input_ids=inputs.input_ids[:size],
            positions=inputs.positions[:, :size],
            geometry=geometry,
            attention=runner.attention,
            attention_plan=plan,
            kv=runner.kv,
            logits_index=index,
        )

        def decode() -> DecodeOutput:
            runner.attention.prepare(plan, geometry)
            hidden = runner.model.forward(batch)
            return DecodeOutput(hidden=hidden, logits=runner.compute_logits(hidden))

        return self._platform.capture(decode)
