"""Times of the experts' products on a device: each checked against torch, then replayed in a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import torch
from torch import Tensor
from torch.nn import functional as F

from hookline_kernels.triton_moe.align import align
from hookline_kernels.triton_moe.few import few_down, few_up
from hookline_kernels.triton_moe.grouped import grouped_down, grouped_up
from hookline_kernels.triton_moe.tiles import ExpertsShape, FewTile, GroupedTile

#: Routings that a graph goes through, so that weights of few experts are not in the cache.
_ROUTINGS = 4
_REPLAYS = 5
_DIGEST_ROWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The weights of one layer: w13 [E, 2I, H], w2 [E, H, I]."""

    shape: ExpertsShape
    top_k: int
    w13: Tensor
    w2: Tensor

    @classmethod
    def random(cls, shape: ExpertsShape, top_k: int, device: torch.device) -> Layer:
        dtype: torch.dtype = getattr(torch, shape.dtype)
        w13 = torch.empty(shape.experts, 2 * shape.width, shape.hidden, dtype=dtype, device=device)
        w2 = torch.empty(shape.experts, shape.hidden, shape.width, dtype=dtype, device=device)
        w13.normal_(0, shape.hidden**-0.5)
        w2.normal_(0, shape.width**-0.5)
        return cls(shape=shape, top_k=top_k, w13=w13, w2=w2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One kernel at one size."""

    microseconds: float
    #: ||out - exact|| / ||exact||, the exact one from float32 products of the same inputs.
    error: float
    #: Of the bits of the first rows: tiles of equal digests may stand in for each other in deterministic mode.
    digest: str


class Routing:
    """Tokens, their experts, and what each kernel should make of them."""

    def __init__(self, layer: Layer, tokens: int, index: int) -> None:
        device, experts = layer.w13.device, layer.shape.experts
        dtype = layer.w13.dtype
        self._layer = layer
        self.x_TH = torch.randn(tokens, layer.shape.hidden, device=device).to(dtype)
        scores = torch.rand(tokens, experts, device=device)
        if tokens == 1:
            # Experts of their own for each routing: their weights are cold.
            first = index * layer.top_k % experts
            scores[:, first : first + layer.top_k] += 1
        self.ids_TK = scores.topk(layer.top_k).indices
        self.weights_TK = torch.softmax(torch.rand(tokens, layer.top_k, device=device), -1)
        self.order_P, self.counts_E = align(self.ids_TK, experts)

    @cached_property
    def up(self) -> Tensor:
        """[P, I] in sorted order, float32."""

        def product(rows: Tensor, expert: int) -> Tensor:
            gate, up = (self.x_TH[rows // self._layer.top_k].float() @ self._layer.w13[expert].float().T).chunk(2, 1)
            return F.silu(gate) * up

        return self._by_expert(product)

    @cached_property
    def hidden(self) -> Tensor:
        """What the down product is given, in sorted order."""
        return self.up.to(self.x_TH.dtype)

    @cached_property
    def down(self) -> Tensor:
        """[P, H] at the places of the pairs, float32."""
        begins = iter(torch.cumsum(self.counts_E, 0).sub(self.counts_E).tolist())
        begin_of = dict(enumerate(begins))

        def product(rows: Tensor, expert: int) -> Tensor:
            begin = begin_of[expert]
            return self.hidden[begin : begin + len(rows)].float() @ self._layer.w2[expert].float().T

        parts = self._by_expert(product)
        out = torch.empty_like(parts)
        out[self.order_P.long()] = parts
        return out * self.weights_TK.reshape(-1, 1)

    def _by_expert(self, product: Callable[[Tensor, int], Tensor]) -> Tensor:
        rows = torch.split(self.order_P.long(), self.counts_E.tolist())
        return torch.cat([product(some, expert) for expert, some in enumerate(rows) if len(some)])


class Bench:
    """Routings of one number of tokens through one layer."""

    def __init__(self, layer: Layer, tokens: int) -> None:
        self.layer, self.tokens = layer, tokens
        count = 16 if tokens == 1 else _ROUTINGS if tokens <= 1024 else 2
        self._routings = [Routing(layer, tokens, index) for index in range(count)]
        self.distinct = sum(int((one.counts_E > 0).sum()) for one in self._routings) / count
        self._order = self._routings[0].order_P.long()

    @property
    def pairs(self) -> int:
        return self.tokens * self.layer.top_k

    def num_bytes(self, is_up: bool) -> float:
        """Weights of the experts that are visited; rows in and out."""
        shape, item = self.layer.shape, self.layer.w13.element_size()
        weights = self.distinct * shape.width * shape.hidden * (2 if is_up else 1)
        rows = self.tokens * shape.hidden + self.pairs * shape.width if is_up else self.pairs * shape.width
        return item * (weights + rows)

    def flops(self, is_up: bool) -> float:
        """Multiplications and additions of one product."""
        return 2.0 * self.pairs * self.layer.shape.width * self.layer.shape.hidden * (2 if is_up else 1)

    def grouped(self, tile: GroupedTile, is_up: bool) -> Measured:
        layer, first = self.layer, self._routings[0]
        if is_up:
            return self._measure(
                lambda r: grouped_up(r.x_TH, layer.w13, r.order_P, r.counts_E, layer.top_k, tile), first.up
            )
        return self._measure(
            lambda r: grouped_down(r.hidden, layer.w2, r.order_P, r.counts_E, r.weights_TK, tile), first.down
        )

    def few(self, tile: FewTile, is_up: bool) -> Measured:
        layer, first = self.layer, self._routings[0]
        if is_up:
            exact = torch.empty_like(first.up)
            exact[self._order] = first.up
            return self._measure(lambda r: few_up(r.x_TH, layer.w13, r.ids_TK, tile), exact)
        exact = first.down.view(self.tokens, layer.top_k, -1).sum(1)
        placed = {id(r): torch.empty_like(r.hidden).index_copy_(0, r.order_P.long(), r.hidden) for r in self._routings}
        return self._measure(lambda r: few_down(placed[id(r)], layer.w2, r.weights_TK, r.ids_TK, tile), exact)

    def whole(self, call: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]) -> Measured:
        """All of ``fused_moe``."""
        layer = self.layer
        exact = self._routings[0].down.view(self.tokens, layer.top_k, -1).sum(1)
        return self._measure(lambda r: call(r.x_TH, layer.w13, layer.w2, r.weights_TK, r.ids_TK), exact)

    def _measure(self, call: Callable[[Routing], Tensor], exact: Tensor) -> Measured:
        out = call(self._routings[0])
        error = float((out.float() - exact).norm() / exact.norm())
        bits = out[:_DIGEST_ROWS].contiguous().cpu().view(torch.uint8).numpy().tobytes()
        return Measured(microseconds=replay_time(call, self._routings), error=error, digest=f"{crc32(bits):08x}")


def replay_time(call: Callable[[Routing], Tensor], routings: list[Routing]) -> float:
    """Median microseconds of one call, in a graph that goes through all routings."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for routing in routings:
            call(routing)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for routing in routings:
                call(routing)
        times: list[float] = []
        for _ in range(_REPLAYS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record(stream)
            graph.replay()
            end.record(stream)
            end.synchronize()
            times.append(begin.elapsed_time(end) * 1000 / len(routings))
    return sorted(times)[len(times) // 2]
