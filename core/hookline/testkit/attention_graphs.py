"""A decode pass that is planned and captured once, then run over other requests by changing device tensors only."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hookline.interfaces.attention import AttentionBackend
from hookline.testkit.attention_cases import MAX_CONTEXT_LEN, AttentionCase


class CapturedPass:
    """On CUDA a real graph. Elsewhere ``prepare`` and ``forward`` run again with the plan that was made first,
    which shows the same mistake: a length that was taken from the host."""

    def __init__(self, backend: AttentionBackend, case: AttentionCase) -> None:
        """Plan for as many requests as the case has, of any length."""
        self._backend = backend
        self._case = case
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
        self._graph: torch.cuda.CUDAGraph | None = None
        with torch.inference_mode():
            self._plan = backend.plan(self._geometry)
            # The first runs may compile and allocate, which must not be captured.
            self._outputs = self._run()
            if case.device.type == "cuda":
                self._capture()

    def replay(self, case: AttentionCase) -> list[Tensor]:
        """Each layer's output for another case with as many requests and slots."""
        with torch.inference_mode():
            for name in ("req_to_token", "req_pool_indices", "seq_lens", "prefix_lens", "out_cache_loc"):
                getattr(self._geometry, name).copy_(getattr(case.geometry, name))
            for layer in case.layers:
                for mine, theirs in zip(
                    self._pool.planes(layer.layer_id), case.pool.planes(layer.layer_id), strict=True
                ):
                    mine.copy_(theirs)
            for mine, theirs in zip((*self._q, *self._k, *self._v), (*case.q, *case.k, *case.v), strict=True):
                mine.copy_(theirs)
            if self._graph is None:
                self._outputs = self._run()
            else:
                self._graph.replay()
            return [output.clone() for output in self._outputs]

    def _capture(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._run()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._run()

    def _run(self) -> list[Tensor]:
        self._backend.prepare(self._plan, self._geometry)
        outputs = []
        for q, k, v, layer in zip(self._q, self._k, self._v, self._case.layers, strict=True):
            self._pool.store(layer.layer_id, self._geometry.out_cache_loc, k, v)
            outputs.append(self._backend.forward(q, k, v, layer, self._pool, self._plan))
        return outputs
