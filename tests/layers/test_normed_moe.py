"""NormedMoE: the fused routing, and its parts where adapters are in the pass."""

from __future__ import annotations

import torch
from torch import Tensor

from hookline.layers.build import BuildContext
from hookline.layers.normed_moe import NormedMoE
from hookline.layers.ops import ADD_NORM_ROUTE, Ops


def layer(ops: Ops) -> tuple[BuildContext, NormedMoE]:
    ctx = BuildContext(device=torch.device("cpu"), dtype=torch.float32, ops=ops, max_positions=8)
    moe = ctx.moe("l.mlp", hidden_size=8, intermediate_size=6, num_experts=5, top_k=2, renormalize=True)
    normed = ctx.normed_moe(ctx.rms_norm("l.norm", 8, 1e-6), moe)
    draw = torch.Generator().manual_seed(0)
    for parameter in ctx.parameters.values():
        parameter.data.copy_(torch.randn(parameter.data.shape, generator=draw))
    ctx.finalize()
    return ctx, normed


def test_routing_is_asked_of_the_op_set_with_the_layer_s_own_weights() -> None:
    asked: list[tuple[object, ...]] = []
    reference = Ops().request(ADD_NORM_ROUTE)

    def add_norm_route(*arguments: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        asked.append(arguments)
        return reference(*arguments)  # type: ignore[arg-type]

    ctx, normed = layer(Ops([{"add_norm_route": add_norm_route}]))
    x, residual = torch.randn(3, 8), torch.randn(3, 8)
    out, total = normed.forward(x.clone(), residual.clone(), None)
    ((_, _, norm, eps, router, top_k, renormalize),) = asked
    assert norm is ctx.parameters["l.norm.weight"].data
    assert router is ctx.parameters["l.mlp.gate.weight"].data
    assert (eps, top_k, renormalize) == (1e-6, 2, True)
    assert torch.equal(total, x + residual)
    parts, same_total = normed.norm.add(x.clone(), residual.clone())
    torch.testing.assert_close(out, normed.moe.forward(parts, None))
    assert torch.equal(total, same_total)


def test_with_adapters_in_the_pass_it_runs_as_its_parts() -> None:
    def add_norm_route(*arguments: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        raise AssertionError("an adapter may change the router's logits")

    _, normed = layer(Ops([{"add_norm_route": add_norm_route}]))
    _, expected = layer(Ops())
    x, residual = torch.randn(3, 8), torch.randn(3, 8)
    out, total = normed.forward(x.clone(), residual.clone(), object())
    expected_out, expected_total = expected.forward(x.clone(), residual.clone(), None)
    torch.testing.assert_close(out, expected_out)
    torch.testing.assert_close(total, expected_total)
