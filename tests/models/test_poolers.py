"""Poolers give the same vector however a prompt was cut, and the one that their name says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hookline.interfaces.pooling import Pooler, PoolerSpec
from hookline_models.plugin import PLUGIN, hookline_poolers
from hookline_models.poolers import ClsPooler, LastPooler, MeanPooler

POOLERS: dict[str, type[Pooler]] = {"last": LastPooler, "cls": ClsPooler, "mean": MeanPooler}


def pool(pooler: Pooler, chunks: list[torch.Tensor]) -> torch.Tensor:
    for index, chunk in enumerate(chunks):
        pooler.update(chunk, index == 0, index == len(chunks) - 1)
    return pooler.result()


def test_hook_hookline_poolers() -> None:
    specs = {spec.name: spec for spec in hookline_poolers()}
    assert set(specs) == set(POOLERS)
    for name, spec in specs.items():
        assert isinstance(spec, PoolerSpec)
        assert spec.kind in PLUGIN.provides
        assert spec.target == f"{POOLERS[name].__module__}:{POOLERS[name].__name__}"
    # A cached prefix has no hidden states to pool.
    assert {name for name, spec in specs.items() if spec.needs_all_tokens} == {"cls", "mean"}


@pytest.mark.parametrize("name", POOLERS)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_chunks_do_not_change_the_vector(name: str, sizes: list[int]) -> None:
    hidden = torch.randn(sum(sizes), 16, generator=torch.Generator().manual_seed(0))
    got = pool(POOLERS[name](), list(hidden.split(sizes)))
    expected = {"last": hidden[-1], "cls": hidden[0], "mean": hidden.mean(0)}[name]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


def test_the_mean_of_many_bfloat16_states_is_added_up_in_float32() -> None:
    hidden = torch.full((4096, 4), 1.01).bfloat16()
    got = pool(MeanPooler(), list(hidden.split(1000)))
    torch.testing.assert_close(got, hidden[0].float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", POOLERS)
def test_a_retracted_request_starts_anew(name: str) -> None:
    hidden = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    pooler = POOLERS[name]()
    pooler.update(torch.full((5, 4), 99.0), True, False)
    got = pool(pooler, list(hidden.split(4)))
    torch.testing.assert_close(got, pool(POOLERS[name](), [hidden]))


@pytest.mark.parametrize("name", POOLERS)
def test_the_vector_outlives_the_pass(name: str) -> None:
    hidden = torch.ones(3, 4)
    pooler = POOLERS[name]()
    pooler.update(hidden, True, True)
    hidden.zero_()
    assert torch.equal(pooler.result(), torch.ones(4))
