"""Profiling: the memory that passes take, measured with the largest ones that may come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import ModelWorkerBatch, SamplingRow
from hookline.cache.spec import KVSpec
from hookline.platform import Platform
from hookline.sampling_params import SamplingParams
from hookline.worker.kv_pool import KVPool
from hookline.worker.step import StepRunner

#: Makes a runner over a KV pool.
RunnerMaker = Callable[[KVPool], StepRunner]


def measure_activations(
    platform: Platform,
    specs: Sequence[KVSpec],
    make_runner: RunnerMaker,
    *,
    num_tokens: int,
    num_rows: int,
    max_context_len: int,
    page_size: int,
    position_planes: int,
) -> int:
    """Bytes that a prefill of ``num_tokens`` tokens or a decode of ``num_rows`` requests takes at its peak.

    Only on platforms that count allocations.
    """
    slots = max(num_tokens, num_rows)
    kv = KVPool(specs, num_tokens=-(-slots // page_size) * page_size, page_size=page_size, platform=platform)
    runner = make_runner(kv)
    prefill = [max_context_len] * (num_tokens // max_context_len)
    if num_tokens % max_context_len:
        prefill.append(num_tokens % max_context_len)
    passes = [
        _pass(step, extend_lens, page_size, position_planes)
        for step, extend_lens in enumerate((prefill[:num_rows], [1] * num_rows))
    ]

    def run(batch: ModelWorkerBatch) -> None:
        runner.launch(batch).result()

    peak = max(platform.measure_peak(partial(run, batch)) for batch in passes)
    kv.release()
    return peak


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
