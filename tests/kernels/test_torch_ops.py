"""The "torch" op set against core's references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hookline.interfaces.kernels import OpSetSpec
from hookline.layers.ops import OPS, Ops
from hookline_kernels.plugin import PLUGIN, hookline_ops
from hookline_kernels.torch_ops import torch_ops

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def pair(name: str, dtype: torch.dtype) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The set's op and the reference."""
    return torch_ops(CPU, dtype, None)[name], Ops().request(OPS[name])


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = 2e-2 if got.dtype == torch.bfloat16 else 1e-5
    assert got.dtype == expected.dtype
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


def test_hook_hookline_ops() -> None:
    (spec,) = hookline_ops()
    assert isinstance(spec, OpSetSpec)
    assert spec.kind in PLUGIN.provides
    for dtype in DTYPES:
        assert set(torch_ops(CPU, dtype, None)) == spec.ops
    assert spec.ops <= set(OPS)
    Ops([torch_ops(CPU, torch.float32, None)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 32), (1, 32), (5, 256), (7, 3, 16)])
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    fast, reference = pair("rms_norm", dtype)
    x = rand(*shape, dtype=dtype)
    for weight in (rand(shape[-1], seed=1, dtype=dtype), rand(*shape[1:], seed=2, dtype=dtype)):
        assert_close(fast(x, weight, 1e-6), reference(x, weight, 1e-6))


def test_rms_norm_of_zeros_is_zero_and_of_small_numbers_honours_eps() -> None:
    fast, reference = pair("rms_norm", torch.float32)
    weight = torch.ones(64)
    assert torch.equal(fast(torch.zeros(2, 64), weight, 1e-6), torch.zeros(2, 64))
    small = rand(3, 64) * 1e-4
    assert_close(fast(small, weight, 1e-6), reference(small, weight, 1e-6))
    assert_close(fast(small, weight, 1e-3), reference(small, weight, 1e-3))


def test_rms_norm_reads_strided_input_and_leaves_it_alone() -> None:
    fast, reference = pair("rms_norm", torch.float32)
    whole = rand(6, 10, 16)
    x, before = whole[:, 2:7], whole.clone()
    assert_close(fast(x, rand(5, 16, seed=1), 1e-6), reference(x, rand(5, 16, seed=1), 1e-6))
    assert torch.equal(whole, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_tokens", [0, 1, 9])
def test_silu_and_mul(num_tokens: int, dtype: torch.dtype) -> None:
    fast, reference = pair("silu_and_mul", dtype)
    x = rand(num_tokens, 24, dtype=dtype)
    before = x.clone()
    assert_close(fast(x), reference(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_tokens", [0, 1, 9])
def test_rotary(num_tokens: int, dtype: torch.dtype) -> None:
    fast, reference = pair("rotary", dtype)
    angles = rand(num_tokens, 1, 32, seed=1)
    x = rand(num_tokens, 8, 32, dtype=dtype)[:, :5]
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    assert_close(fast(x, cos, sin), reference(x, cos, sin))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("num_tokens", [0, 1, 33])
def test_topk_softmax(num_tokens: int, renormalize: bool, dtype: torch.dtype) -> None:
    fast, reference = pair("topk_softmax", dtype)
    # Distinct logits: which of equal experts is taken is nobody's promise.
    logits = (rand(num_tokens, 40).argsort(-1) / 4).to(dtype)
    (weights, ids), (expected_weights, expected_ids) = fast(logits, 4, renormalize), reference(logits, 4, renormalize)
    assert torch.equal(ids, expected_ids)
    assert_close(weights, expected_weights)


@pytest.mark.parametrize("renormalize", [True, False])
def test_topk_softmax_with_ties_takes_distinct_experts(renormalize: bool) -> None:
    fast, reference = pair("topk_softmax", torch.float32)
    logits = torch.zeros(3, 6)
    (weights, ids), (expected, _) = fast(logits, 4, renormalize), reference(logits, 4, renormalize)
    assert all(len(set(row)) == 4 for row in ids.tolist())
    assert_close(weights, expected)


def moe_inputs(num_tokens: int, dtype: torch.dtype, ids: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    experts, hidden, width = 6, 32, 16
    if ids is None:
        ids = rand(num_tokens, experts, seed=4).topk(2).indices
    weights = torch.softmax(rand(num_tokens, ids.shape[1], seed=3), -1)
    w13, w2 = rand(experts, 2 * width, hidden, seed=1) / 6, rand(experts, hidden, width, seed=2) / 4
    return rand(num_tokens, hidden, dtype=dtype), w13.to(dtype), w2.to(dtype), weights, ids


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_tokens", [0, 1, 7, 33])
def test_fused_moe(num_tokens: int, dtype: torch.dtype) -> None:
    fast, reference = pair("fused_moe", dtype)
    inputs = moe_inputs(num_tokens, dtype)
    assert_close(fast(*inputs), reference(*inputs))


@pytest.mark.parametrize(
    "ids", [[[3, 3]] * 9, [[5, 5]], [[0, -1], [-1, -1], [4, 1]], [[-1, 2]], [[-1, -1]], [[-1, -1]] * 3]
)
def test_fused_moe_with_one_expert_or_none(ids: list[list[int]]) -> None:
    fast, reference = pair("fused_moe", torch.float32)
    inputs = moe_inputs(len(ids), torch.float32, torch.tensor(ids))
    assert_close(fast(*inputs), reference(*inputs))
