"""DecodeGraphs: decode passes captured as device graphs, one for each of a ladder of batch sizes.

A replay launches a whole pass at once, so that the device never waits for Python: reading the tokens sampled last,
entering the new slots, the model, the logits, the most probable tokens. One copy brings what the host has to say.
Passes of other sizes are padded to the next rung: padding requests lie in a row of the table of their own, whose slots
are all the sink.

Shape letters: B requests (one token each), P position planes, H hidden, V vocabulary.
"""

from __future__ import annotations

import bisect
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hookline.batch.forward_batch import AttentionGeometry, ForwardBatch
from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.layers.ops import ARGMAX, Ops
from hookline.platform import Graph, Platform
from hookline.worker.decode_inputs import DecodeInputs, DecodeTensors, num_words
from hookline.worker.model_runner import ModelRunner
from hookline.worker.overlap import TokenTable

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
    #: [B] float32 largest logit, and [B] int64 its token, which the token table has already.
    best: torch.Tensor
    token_ids: torch.Tensor
    #: [B] int64.
    rows: torch.Tensor

    def first(self, count: int) -> DecodeOutput:
        """Without padding."""
        return DecodeOutput(
            hidden=self.hidden[:count],
            logits=self.logits[:count],
            best=self.best[:count],
            token_ids=self.token_ids[:count],
            rows=self.rows[:count],
        )


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph, and the attention plan that its kernels read."""

    graph: Graph[DecodeOutput]
    attention_plan: Any


class DecodeGraphs:
    """Captures decode passes of a ``ModelRunner`` and replays them.

    ``plan`` may be called from any thread; everything else runs in the work queue.
    """

    def __init__(
        self,
        runner: ModelRunner,
        tokens: TokenTable,
        platform: Platform,
        ops: Ops,
        sizes: Sequence[int],
        *,
        position_planes: int,
    ) -> None:
        self._runner = runner
        self._tokens = tokens
        self._platform = platform
        self._argmax = ops.request(ARGMAX)
        self._sizes = sorted(sizes)
        self._planes = position_planes
        #: Belongs to no request, and all of its slots are the sink.
        self._pad_row = runner.req_to_token.shape[0] - 1
        #: What the host says of a pass; the graph of each size reads the beginning.
        self._words = platform.zeros((num_words(self._sizes[-1], position_planes),), torch.int64)
        self._graphs: dict[int, _Captured] = {}

    @property
    def sizes(self) -> list[int]:
        """Batch sizes with a graph."""
        return sorted(self._graphs)

    @property
    def ladder(self) -> list[int]:
        """Batch sizes that are to have a graph."""
        return list(self._sizes)

    def capture_all(self) -> None:
        """Capture every size anew."""
        begun = time.monotonic()
        self.release()
        self.capture(self._sizes[::-1])
        seconds = time.monotonic() - begun
        logger.info("captured decodes of %d batch sizes up to %d in %.1f s", len(self._sizes), self._sizes[-1], seconds)

    def capture(self, sizes: Sequence[int]) -> None:
        """Capture some sizes, the largest first, so that the smaller ones fit into its memory."""
        for size in sizes:
            self._graphs[size] = self._capture(size)

    def release(self) -> None:
        """Let go of all graphs and of the memory that they share."""
        if self._graphs:
            self._graphs.clear()
            self._platform.forget_graphs()
            self._platform.release_cached()

    def plan(self, batch: ModelWorkerBatch) -> DecodeInputs | None:
        """The host's half of a replay; ``None`` for a pass that none of the graphs can run."""
        if not self._fits(batch):
            return None
        size = self._sizes[bisect.bisect_left(self._sizes, batch.batch_size)]
        return DecodeInputs(batch, size, self._planes, self._pad_row, self._platform)

    def _fits(self, batch: ModelWorkerBatch) -> bool:
        """A plain decode that is not too large and samples every request."""
        return (
            bool(self._graphs)
            and batch.mode is ForwardMode.DECODE
            and 0 < batch.batch_size <= self._sizes[-1]
            and batch.adapters is None
            and batch.pooling is None
            and not batch.extras
            and not batch.media
            and not batch.table_rows.size
            and all(batch.samples)
        )

    def replay(self, inputs: DecodeInputs) -> DecodeOutput:
        """Run a planned pass."""
        self._words[: inputs.words.shape[0]].copy_(inputs.words, non_blocking=True)
        captured = self._graphs[inputs.size]
        self._runner.attention.replan(captured.attention_plan, inputs.seq_lens)
        return captured.graph.replay().first(inputs.count)

    def _capture(self, size: int) -> _Captured:
        runner = self._runner
        tensors = DecodeTensors.of(self._words, size, self._planes)
        tensors.pad(self._pad_row)
        longest = runner.req_to_token.shape[1]
        geometry = AttentionGeometry(
            mode=ForwardMode.DECODE,
            req_to_token=runner.req_to_token,
            req_pool_indices=tensors.rows,
            seq_lens=tensors.seq_lens,
            prefix_lens=tensors.prefix_lens,
            # Bounds: what is replayed tells its own lengths to ``replan`` and in the device tensors.
            seq_lens_cpu=[longest] * size,
            prefix_lens_cpu=[longest - 1] * size,
            extend_lens_cpu=[1] * size,
            out_cache_loc=tensors.out_cache_loc,
            page_size=runner.kv.page_size,
        )
        plan = runner.attention.plan_capture(geometry)
        index = torch.arange(size, device=self._platform.device)

        def decode() -> DecodeOutput:
            input_ids = self._tokens.read(tensors.input_ids, tensors.rows)
            runner.enter_slots(tensors.rows, tensors.prefix_lens, tensors.out_cache_loc)
            runner.attention.prepare(plan, geometry)
            batch = ForwardBatch(
                mode=ForwardMode.DECODE,
                input_ids=input_ids,
                positions=tensors.positions,
                geometry=geometry,
                attention=runner.attention,
                attention_plan=plan,
                kv=runner.kv,
                logits_index=index,
            )
            hidden = runner.model.forward(batch)
            logits = runner.compute_logits(hidden)
            best, token_ids = self._argmax(logits)
            self._tokens.write(tensors.rows, token_ids)
            return DecodeOutput(hidden=hidden, logits=logits, best=best, token_ids=token_ids, rows=tensors.rows)

        return _Captured(self._platform.capture(decode), plan)
