"""The references of core's ops, their composition, and the batch-invariant products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.errors import PluginError
from hookline.layers import ops as op
from hookline.layers.batch_invariant import TILE_ROWS, tiled_linear
from hookline.layers.ops import OPS, Ops

EPS = 1e-6


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def rotation(num_tokens: int, head_dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """cos and sin as the op wants them, and the angles [T, D/2]."""
    angles = rand(num_tokens, head_dim // 2, seed=9)
    cos = torch.cat((angles.cos(), angles.cos()), -1).unsqueeze(1)
    sin = torch.cat((-angles.sin(), angles.sin()), -1).unsqueeze(1)
    return cos, sin, angles


@pytest.mark.parametrize("num_tokens", [0, 1, 7])
def test_rms_norm_divides_by_the_root_mean_square(num_tokens: int) -> None:
    x, weight = rand(num_tokens, 24), rand(24, seed=1)
    expected = x.double() / (x.double().pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight.double()
    torch.testing.assert_close(op.rms_norm(x, weight, EPS).double(), expected, atol=1e-5, rtol=1e-5)


def test_rms_norm_of_bfloat16_is_computed_in_float32() -> None:
    x = rand(3, 512, dtype=torch.bfloat16) * 100
    got = op.rms_norm(x, torch.ones(512, dtype=torch.bfloat16), EPS)
    expected = op.rms_norm(x.float(), torch.ones(512), EPS)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected.bfloat16(), atol=0, rtol=0)


def test_rotary_turns_each_pair_by_its_angle() -> None:
    x = rand(5, 3, 8)
    cos, sin, angles = rotation(5, 8)
    got = op.rotary(x, cos, sin)
    pairs = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(5, 1, 4), angles.unsqueeze(1))
    torch.testing.assert_close(got, torch.cat((pairs.real, pairs.imag), -1))


def test_rotary_of_position_zero_changes_nothing() -> None:
    x = rand(2, 3, 8)
    ones = torch.ones(2, 1, 8)
    torch.testing.assert_close(op.rotary(x, ones, torch.zeros(2, 1, 8)), x)


def test_silu_and_mul_takes_the_gate_first() -> None:
    gate, up = rand(4, 6), rand(4, 6, seed=1)
    got = op.silu_and_mul(torch.cat((gate, up), -1))
    torch.testing.assert_close(got, gate * torch.sigmoid(gate) * up)


@pytest.mark.parametrize("renormalize", [True, False])
def test_topk_softmax_weighs_in_float32(renormalize: bool) -> None:
    logits = rand(6, 16, dtype=torch.bfloat16)
    weights, ids = op.topk_softmax(logits, 4, renormalize)
    probabilities = torch.softmax(logits.double(), -1)
    best = probabilities.sort(-1, descending=True).values[:, :4]
    torch.testing.assert_close(probabilities.gather(1, ids), best)
    expected = best / best.sum(-1, keepdim=True) if renormalize else best
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), expected, atol=1e-6, rtol=1e-6)


def test_qk_norm_rope_norms_each_head_before_it_turns_it() -> None:
    num_q, num_kv, head_dim, num_tokens = 4, 2, 8, 5
    qkv = rand(num_tokens, (num_q + 2 * num_kv) * head_dim)
    weight = rand(num_q + num_kv, head_dim, seed=1)
    cos, sin, _ = rotation(num_tokens, head_dim)
    q, k, v = Ops().request(op.QK_NORM_ROPE)(qkv, weight, EPS, cos, sin, num_q, num_kv)

    heads = qkv.view(num_tokens, -1, head_dim)
    expected_q = op.rotary(op.rms_norm(heads[:, :num_q], weight[:num_q], EPS), cos, sin)
    expected_k = op.rotary(op.rms_norm(heads[:, num_q:6], weight[num_q:], EPS), cos, sin)
    torch.testing.assert_close(q, expected_q)
    torch.testing.assert_close(k, expected_k)
    torch.testing.assert_close(v, heads[:, 6:])
    # The other order gives other numbers, so this test can tell.
    wrong = op.rms_norm(op.rotary(heads[:, :num_q], cos, sin), weight[:num_q], EPS)
    assert not torch.allclose(q, wrong, atol=1e-3)


def test_rope_qkv_leaves_values_alone() -> None:
    qkv = rand(3, 8 * 4)
    cos, sin, _ = rotation(3, 4)
    q, k, v = Ops().request(op.ROPE_QKV)(qkv, cos, sin, 4, 2)
    heads = qkv.view(3, 8, 4)
    torch.testing.assert_close(torch.cat((q, k), 1), op.rotary(heads[:, :6], cos, sin))
    torch.testing.assert_close(v, heads[:, 6:])


def test_a_composite_op_is_made_of_the_chosen_parts() -> None:
    calls: list[str] = []

    def counted_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        calls.append("rms_norm")
        return op.rms_norm(x, weight, eps)

    ops = Ops([{"rms_norm": counted_norm}])
    x, residual = rand(2, 4), rand(2, 4, seed=1)
    total = x + residual
    normed, added = ops.request(op.FUSED_ADD_RMS_NORM)(x, residual, torch.ones(4), EPS)
    assert calls == ["rms_norm"]
    torch.testing.assert_close(added, total)
    torch.testing.assert_close(normed, op.rms_norm(total, torch.ones(4), EPS))


def test_the_first_set_that_has_an_op_wins() -> None:
    def first(x: torch.Tensor) -> torch.Tensor:
        return x

    def second(x: torch.Tensor) -> torch.Tensor:
        return x

    ops = Ops([{"silu_and_mul": first}, {"silu_and_mul": second, "linear": op.linear}])
    assert ops.request(op.SILU_AND_MUL) is first
    assert ops.request(op.LINEAR) is op.linear


def test_an_op_set_with_an_unknown_op_is_refused() -> None:
    with pytest.raises(PluginError, match=r"unknown op 'rmsnorm'.*rms_norm"):
        Ops([{"rmsnorm": op.rms_norm}])


def test_every_op_has_a_fallback() -> None:
    ops = Ops()
    for name, definition in OPS.items():
        assert name == definition.name
        assert callable(ops.request(definition))


def moe_inputs(num_tokens: int, *, ids: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    experts, hidden, width, top_k = 5, 12, 8, 2
    if ids is None:
        ids = rand(num_tokens, experts, seed=4).topk(top_k).indices
    weights = torch.softmax(rand(num_tokens, ids.shape[1], seed=3), -1)
    return (
        rand(num_tokens, hidden),
        rand(experts, 2 * width, hidden, seed=1),
        rand(experts, hidden, width, seed=2),
        weights,
        ids,
    )


def naive_moe(
    x: torch.Tensor, w13: torch.Tensor, w2: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    out = torch.zeros_like(x, dtype=torch.float64)
    for token in range(x.shape[0]):
        for weight, expert in zip(weights[token].tolist(), ids[token].tolist(), strict=True):
            if expert >= 0:
                gate, up = (w13[expert].double() @ x[token].double()).chunk(2)
                out[token] += weight * (w2[expert].double() @ (gate * torch.sigmoid(gate) * up))
    return out


@pytest.mark.parametrize("num_tokens", [0, 1, 7, 33])
def test_fused_moe_agrees_with_a_loop_over_tokens(num_tokens: int) -> None:
    inputs = moe_inputs(num_tokens)
    got = Ops().request(op.FUSED_MOE)(*inputs)
    torch.testing.assert_close(got.double(), naive_moe(*inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("ids", [[[3, 3]] * 9, [[0, -1], [-1, -1], [4, 1]], [[-1, -1]]])
def test_fused_moe_with_one_expert_or_none(ids: list[list[int]]) -> None:
    inputs = moe_inputs(len(ids), ids=torch.tensor(ids))
    got = Ops().request(op.FUSED_MOE)(*inputs)
    torch.testing.assert_close(got.double(), naive_moe(*inputs), atol=1e-4, rtol=1e-4)


def _alone_and_together(run: Callable[..., torch.Tensor], x: torch.Tensor, *rows: Any) -> None:
    together = run(x, *rows)
    for index in range(x.shape[0]):
        alone = run(x[index : index + 1], *(row[index : index + 1] for row in rows))
        assert torch.equal(alone[0], together[index]), f"row {index} depends on its neighbours"


@settings(max_examples=20, deadline=None)
@given(num_tokens=st.integers(1, 3 * TILE_ROWS), features=st.sampled_from([(64, 96), (256, 520), (33, 17)]))
def test_deterministic_linear_is_the_same_for_a_row_in_any_batch(num_tokens: int, features: tuple[int, int]) -> None:
    inputs, outputs = features
    linear = Ops(deterministic=True).request(op.LINEAR)
    weight, bias = rand(outputs, inputs, seed=1), rand(outputs, seed=2)
    x = rand(num_tokens, inputs, seed=num_tokens)
    _alone_and_together(lambda rows: linear(rows, weight, bias), x)
    torch.testing.assert_close(linear(x, weight, bias), op.linear(x, weight, bias), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_tokens", [2, 17, 40])
def test_deterministic_ops_are_the_same_for_a_row_in_any_batch(num_tokens: int) -> None:
    ops = Ops(deterministic=True)
    x, w13, w2, weights, ids = moe_inputs(num_tokens)
    moe = ops.request(op.FUSED_MOE)
    _alone_and_together(lambda *rows: moe(rows[0], w13, w2, rows[1], rows[2]), x, weights, ids)
    wide = rand(num_tokens, 256)
    norm = ops.request(op.RMS_NORM)
    _alone_and_together(lambda rows: norm(rows, torch.ones(256), EPS), wide)
    _alone_and_together(ops.request(op.SILU_AND_MUL), wide)
    _alone_and_together(lambda rows: ops.request(op.TOPK_SOFTMAX)(rows, 4, True)[0], wide)


def test_deterministic_prefers_the_given_sets_to_the_references() -> None:
    def own(x: torch.Tensor) -> torch.Tensor:
        return x

    ops = Ops([{"silu_and_mul": own}], deterministic=True)
    assert ops.request(op.SILU_AND_MUL) is own
    assert ops.request(op.LINEAR) is tiled_linear
    assert Ops([{"linear": op.linear}], deterministic=True).request(op.LINEAR) is op.linear
