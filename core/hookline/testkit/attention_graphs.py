"""A decode pass that is planned and captured once, then run over other requests: device tensors change in place, and
the backend is told the host's lengths before each replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hookline.interfaces.attention import AttentionBackend
from hookline.platform import create_platform
from hookline.testkit.attention_cases import MAX_CONTEXT_LEN, AttentionCase
from hookline.testkit.device_tensors import waiting_is_an_error

IntArray = npt.NDArray[np.int64]


class CapturedPass:
    """On CUDA a real graph, captured as the worker does it. Elsewhere ``prepare`` and ``forward`` run again with
    the plan that was made first, which shows the same mistake: a length that the first plan took from the host."""

    def __init__(self, backend: AttentionBackend, case: AttentionCase) -> None:
        """Plan for as many requests as the case has, of any length."""
        self._backend = backend
        self._layers = case.layers
        # What is captured keeps its place; the case that it came from must stay as it is.
        geometry = case.geometry
        self._geometry = replace(
            geometry,
            req_to_token=geometry.req_to_token.clone(),
            req_pool_indices=geometry.req_pool_indices.clone(),
            seq_lens=geometry.seq_lens.clone(),
            prefix_lens=geometry.prefix_lens.clone(),
            out_cache_loc=geometry.out_cache_loc.clone(),
            seq_lens_cpu=[MAX_CONTEXT_LEN] * geometry.batch_size,
            prefix_lens_cpu=[MAX_CONTEXT_LEN - 1] * geometry.batch_size,
        )
        self._pool = case.copy_of_pool()
        self._q, self._k, self._v = ([tensor.clone() for tensor in tensors] for tensors in (case.q, case.k, case.v))
        with torch.inference_mode():
            self._plan = backend.plan_capture(self._geometry)
            self._launch = self._capture() if case.device.type == "cuda" else self._run_again

    def replay(self, case: AttentionCase, *, num_padding: int = 0) -> list[Tensor]:
        """Each layer's output for another case with as many requests and slots.

        The last ``num_padding`` requests are replaced by padding, as in a batch that is smaller than the captured
        one: a token at position 0 in a row of the table whose slots are all the sink.
        """
        with torch.inference_mode():
            self._fill(case)
            seq_lens = np.array(case.geometry.seq_lens_cpu, dtype=np.int64)
            if num_padding:
                self._pad(num_padding)
                seq_lens[-num_padding:] = 1
            return [output.clone() for output in self._launch(seq_lens)]

    def _fill(self, case: AttentionCase) -> None:
        for name in ("req_to_token", "req_pool_indices", "seq_lens", "prefix_lens", "out_cache_loc"):
            getattr(self._geometry, name).copy_(getattr(case.geometry, name))
        for layer in case.layers:
            planes = zip(self._pool.planes(layer.layer_id), case.pool.planes(layer.layer_id), strict=True)
            for mine, theirs in planes:
                mine.copy_(theirs)
        for mine, theirs in zip((*self._q, *self._k, *self._v), (*case.q, *case.k, *case.v), strict=True):
            mine.copy_(theirs)

    def _pad(self, num_padding: int) -> None:
        geometry = self._geometry
        used = set(geometry.req_pool_indices.tolist())
        row = next(row for row in range(geometry.req_to_token.shape[0]) if row not in used)
        geometry.req_to_token[row] = 0
        geometry.req_pool_indices[-num_padding:] = row
        geometry.seq_lens[-num_padding:] = 1
        geometry.prefix_lens[-num_padding:] = 0
        geometry.out_cache_loc[-num_padding:] = 0

    def _run(self) -> list[Tensor]:
        self._backend.prepare(self._plan, self._geometry)
        outputs = []
        for q, k, v, layer in zip(self._q, self._k, self._v, self._layers, strict=True):
            self._pool.store(layer.layer_id, self._geometry.out_cache_loc, k, v)
            outputs.append(self._backend.forward(q, k, v, layer, self._pool, self._plan))
        return outputs

    def _run_again(self, seq_lens: IntArray) -> list[Tensor]:
        self._backend.replan(self._plan, seq_lens)
        return self._run()

    def _capture(self) -> Callable[[IntArray], list[Tensor]]:
        platform = create_platform("cuda")
        queue = platform.queue()
        # The queue has a stream of its own, the tensors are filled in another.
        torch.cuda.synchronize()
        graph = queue.submit(lambda: platform.capture(self._run)).wait()

        def replay(seq_lens: IntArray) -> list[Tensor]:
            with waiting_is_an_error(platform.device):
                self._backend.replan(self._plan, seq_lens)
                return graph.replay()

        def launch(seq_lens: IntArray) -> list[Tensor]:
            torch.cuda.synchronize()
            return queue.submit(lambda: replay(seq_lens)).wait()

        return launch
