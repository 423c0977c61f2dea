"""Batch-invariant products of the Triton set: the same bits for a row wherever it lies and whatever is beside it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.layers import ops as op
from hookline_kernels.triton_invariant.linear import MANY_TOKENS, invariant_linear, linear_tile

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the GPU here")


def rand(*shape: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@on_cpu
@settings(deadline=None, max_examples=8)
@given(
    batches=st.lists(st.integers(1, 70), min_size=2, max_size=3),
    sizes=st.sampled_from([(33, 17), (64, 96), (200, 130)]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    has_bias=st.booleans(),
)
def test_a_row_has_the_same_bits_in_every_batch(
    batches: list[int], sizes: tuple[int, int], dtype: torch.dtype, has_bias: bool
) -> None:
    inputs, outputs = sizes
    weight = rand(outputs, inputs, seed=1, dtype=dtype)
    bias = rand(outputs, seed=2, dtype=dtype) if has_bias else None
    row = rand(1, inputs, seed=3, dtype=dtype)
    alone = invariant_linear(row, weight, bias)
    torch.testing.assert_close(alone, op.linear(row, weight, bias), atol=2e-2, rtol=2e-3)
    for size in batches:
        batch = rand(size, inputs + 5, seed=size, dtype=dtype)[:, :inputs]
        batch[size // 2] = row
        assert torch.equal(invariant_linear(batch, weight, bias)[size // 2], alone[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_exact_products_have_one_tile_and_others_follow_the_weight(dtype: torch.dtype) -> None:
    tiles = {linear_tile(tokens, 4096, dtype) for tokens in (1, 17, MANY_TOKENS - 1, MANY_TOKENS, 9999)}
    assert len(tiles) == (1 if dtype is torch.float32 else 2)
    assert linear_tile(1, 150_000, dtype) == linear_tile(300, 150_000, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize(("inputs", "outputs"), [(1024, 4096), (2048, 1024), (3072, 1024), (1024, 20_000), (200, 130)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_tiles_give_the_same_bits_on_the_device(inputs: int, outputs: int, dtype: torch.dtype) -> None:
    weight = rand(outputs, inputs, seed=1, dtype=dtype).cuda() * 0.02
    rows = rand(1100, inputs, seed=2, dtype=dtype).cuda()
    whole = invariant_linear(rows, weight, None)
    expected = op.linear(rows.float(), weight.float(), None)
    torch.testing.assert_close(whole.float(), expected, atol=2e-2, rtol=2e-2)
    for size in (1, 2, 7, 33, 64, 65, 200, 511, 512, 513):
        start = (7 * size) % (1100 - size)
        assert torch.equal(invariant_linear(rows[start : start + size], weight, None), whole[start : start + size])
