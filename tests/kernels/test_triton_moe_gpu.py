"""The experts' kernels on a GPU, where launches overlap and tiles go through the copy engine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hookline.layers.ops import ADD_NORM_ROUTE, Ops
from hookline_kernels.triton_moe.candidates import grouped_candidates
from hookline_kernels.triton_moe.experts import fused_moe, fused_moe_deterministic, grouped_moe
from hookline_kernels.triton_moe.measuring import Layer, Routing
from hookline_kernels.triton_moe.routing import add_norm_route
from hookline_kernels.triton_moe.tiles import ExpertsShape, GroupedTile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SHAPE = ExpertsShape(experts=32, width=384, hidden=1024, dtype="bfloat16")


@pytest.fixture(scope="module")
def layer() -> Layer:
    torch.manual_seed(0)
    return Layer.random(SHAPE, 4, torch.device("cuda"))


def error(got: Tensor, routing: Routing) -> float:
    exact = routing.down.view(*routing.ids_TK.shape, -1).sum(1)
    return float((got.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize("tokens", [1, 2, 5, 33, 300, 3000])
def test_any_number_of_tokens(tokens: int, layer: Layer) -> None:
    routing = Routing(layer, tokens, 0)
    for function in (fused_moe, fused_moe_deterministic):
        got = function(routing.x_TH, layer.w13, layer.w2, routing.weights_TK, routing.ids_TK)
        assert error(got, routing) < 8e-3


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("tma", [False, True])
@pytest.mark.parametrize("per_sm", [0, 1])
def test_every_kind_of_grouped_tile(per_sm: int, tma: bool, swap: bool, layer: Layer) -> None:
    tile = GroupedTile(
        rows=64,
        columns=64,
        depth=64,
        num_warps=4,
        num_stages=3,
        swap=swap,
        weights_tma=tma,
        rows_tma=tma,
        per_sm=per_sm,
    )
    routing = Routing(layer, 100, 0)
    got = grouped_moe(
        routing.x_TH, layer.w13, layer.w2, routing.weights_TK, routing.ids_TK, tile, replace(tile, columns=128)
    )
    assert error(got, routing) < 8e-3


@pytest.mark.parametrize("swap", [False, True])
def test_half_tails(swap: bool, layer: Layer) -> None:
    tile = GroupedTile(
        rows=128, columns=64, depth=64, num_warps=8, num_stages=3, swap=swap, weights_tma=True, half_tail=True
    )
    routing = Routing(layer, 700, 0)
    got = grouped_moe(
        routing.x_TH, layer.w13, layer.w2, routing.weights_TK, routing.ids_TK, tile, replace(tile, columns=128)
    )
    assert error(got, routing) < 8e-3


@pytest.mark.parametrize("tokens", [1, 4, 200])
def test_replays_of_overlapping_launches_give_the_same_bits(tokens: int, layer: Layer) -> None:
    """Norm, routing and experts, several layers in a row, as a decode step has them."""
    norm = torch.rand(SHAPE.hidden, device="cuda").bfloat16()
    router = torch.randn(SHAPE.experts, SHAPE.hidden, device="cuda").bfloat16()
    start = torch.randn(tokens, SHAPE.hidden, device="cuda").bfloat16()

    def step() -> Tensor:
        x, residual = start, start
        for _ in range(4):
            normed, residual, weights, ids = add_norm_route(x.clone(), residual.clone(), norm, 1e-6, router, 4, True)
            x = fused_moe(normed, layer.w13, layer.w2, weights, ids)
        return x + residual

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        expected = step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            out = step()
        for _ in range(30):
            out.zero_()
            graph.replay()
            stream.synchronize()
            assert torch.equal(out, expected)


@pytest.mark.parametrize("tokens", [1, 7, 100])
def test_norm_and_router(tokens: int) -> None:
    draw = torch.Generator().manual_seed(tokens)
    x, residual = (torch.randn(tokens, 512, generator=draw).cuda() for _ in range(2))
    norm, router = torch.rand(512, generator=draw).cuda(), torch.randn(64, 512, generator=draw).cuda()
    got = add_norm_route(x.clone(), residual.clone(), norm, 1e-6, router, 8, True)
    expected = Ops().request(ADD_NORM_ROUTE)(x, residual, norm, 1e-6, router, 8, True)
    for one, other in zip(got[:3], expected[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_token_has_the_same_bits_alone_and_in_any_batch(layer: Layer) -> None:
    routing = Routing(layer, 700, 0)
    x, weights, ids = routing.x_TH, routing.weights_TK, routing.ids_TK
    together = fused_moe_deterministic(x, layer.w13, layer.w2, weights, ids)
    for at in (slice(0, 1), slice(3, 40), slice(100, 700)):
        part = fused_moe_deterministic(x[at], layer.w13, layer.w2, weights[at], ids[at])
        assert torch.equal(part, together[at])


def test_candidates_for_prefill_are_right(layer: Layer) -> None:
    """A few of what the tuner tries, at a shape that fills no tile."""
    routing = Routing(layer, 500, 0)
    ups, downs = grouped_candidates(200.0, True), grouped_candidates(200.0, False)
    for up, down in zip(ups[::9], downs[::13], strict=False):
        got = grouped_moe(routing.x_TH, layer.w13, layer.w2, routing.weights_TK, routing.ids_TK, up, down)
        assert error(got, routing) < 8e-3, (up, down)
