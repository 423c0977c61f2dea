"""The shipped poolers pass the suite that plugin authors use, and give the vector that their name says."""

from __future__ import annotations

import torch

from hookline.testkit.poolers import PoolerSuite, states
from hookline_models.plugin import hookline_poolers


def test_hook_hookline_poolers() -> None:
    # A cached prefix has no hidden states to pool.
    assert {spec.name: spec.needs_all_tokens for spec in hookline_poolers()} == {
        "last": False,
        "cls": True,
        "mean": True,
    }


class TestLast(PoolerSuite):
    name = "last"

    def test_it_is_the_last_state(self) -> None:
        assert torch.equal(self.pool(states(9), [4, 5]), states(9)[-1])


class TestCls(PoolerSuite):
    name = "cls"

    def test_it_is_the_first_state(self) -> None:
        assert torch.equal(self.pool(states(9), [4, 5]), states(9)[0])


class TestMean(PoolerSuite):
    name = "mean"

    def test_it_is_the_mean_of_all_states(self) -> None:
        torch.testing.assert_close(self.pool(states(9), [4, 5]), states(9).mean(0))
