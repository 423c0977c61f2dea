"""Profiling: the memory that passes take, measured with the largest ones that may come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import ModelWorkerBatch, SamplingRow
from hookline.cache.spec import KVSpec
from hookline.platform import Platform, WorkQueue
from hookline.sampling_params import SamplingParams
from hookline.worker.graph_memory import GraphMemory
from hookline.worker.kv_pool import KVPool
from hookline.worker.shortage import naming
from hookline.worker.step import AutoregressiveRunner

#: Makes a runner over a KV pool.
RunnerMaker = Callable[[KVPool], AutoregressiveRunner]
GRAPHS_REMEDY = "set execution.cuda_graph_max_bs to a smaller number, or execution.disable_cuda_graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassMemory:
    """What passes take, in bytes."""

    #: The peak of one pass, sampling included.
    activations: int
    #: What captured passes keep.
    graphs: int
    #: Tables of a runner: the slots of every request, its last token, and so on.
    tables: int


def measure_passes(
    platform: Platform,
    specs: Sequence[KVSpec],
    make_runner: RunnerMaker,
    *,
    num_tokens: int,
    num_rows: int,
    max_context_len: int,
    page_size: int,
    position_planes: int,
    queue: WorkQueue,
) -> PassMemory:
    """Run a prefill of ``num_tokens`` tokens and a decode of ``num_rows`` requests, and capture a few decodes.

    Only on platforms that count allocations. Raises ``MemoryBudgetError`` for what does not fit.
    """
    slots = max(num_tokens, num_rows)
    kv = KVPool(specs, num_tokens=-(-slots // page_size) * page_size, page_size=page_size, platform=platform)
    made: list[AutoregressiveRunner] = []
    tables = platform.measure_held(lambda: made.append(make_runner(kv)))
    runner = made[0]
    prefill = [max_context_len] * (num_tokens // max_context_len)
    if num_tokens % max_context_len:
        prefill.append(num_tokens % max_context_len)
    passes = [
        _pass(step, extend_lens, page_size, position_planes)
        for step, extend_lens in enumerate((prefill[:num_rows], [1] * num_rows))
    ]

    def run(batch: ModelWorkerBatch) -> None:
        runner.launch(batch).result()

    remedy = "set schedule.max_prefill_tokens or schedule.max_running_requests to a smaller number"
    with naming(f"a pass of {num_tokens} tokens beside the weights", remedy, platform):
        activations = max(platform.measure_peak(partial(run, batch)) for batch in passes)
    graphs = 0
    if runner.graphs is not None:
        with naming("captured decodes beside the weights", GRAPHS_REMEDY, platform):
            graphs = GraphMemory.measure(runner.graphs, platform, queue).total
    # The last pass and the runner hold each other, and large tables with them.
    runner.forget()
    kv.release()
    return PassMemory(activations=activations, graphs=graphs, tables=tables)


def _pass(step: int, extend_lens: Sequence[int], page_size: int, position_planes: int) -> ModelWorkerBatch:
    """Requests without a prefix whose tokens are all drawn with every filter."""
    params = SamplingParams(temperature=1.0, top_p=0.9, top_k=50, min_p=0.01, frequency_penalty=0.1)
    counts = np.array(extend_lens, dtype=np.int64)
    rows = np.arange(counts.size, dtype=np.int64)
    num_tokens = int(counts.sum())
    starts = np.cumsum(counts) - counts
    nothing = np.empty(0, dtype=np.int64)
    return ModelWorkerBatch(
        step=step,
        mode=ForwardMode.EXTEND,
        rids=[f"profile-{step}-{row}" for row in rows],
        req_pool_indices=rows,
        seq_lens=counts,
        prefix_lens=np.zeros_like(counts),
        input_ids=np.zeros(num_tokens, dtype=np.int64),
        future_index=nothing,
        future_rows=nothing,
        positions=np.tile(np.arange(num_tokens, dtype=np.int64) - np.repeat(starts, counts), (position_planes, 1)),
        out_cache_loc=np.arange(page_size, page_size + num_tokens, dtype=np.int64),
        table_rows=nothing,
        table_cols=nothing,
        table_slots=nothing,
        samples=[True] * counts.size,
        new_rows=[
            SamplingRow(row=int(row), params=params, choice_index=0, prompt_ids=(0,), output_ids=(), end_token_ids=())
            for row in rows
        ],
    )
