"""Broken poolers. Each class of tests names the test that must fail."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hookline.interfaces.pooling import Pooler, PoolerSpec
from hookline.testkit.poolers import PoolerSuite
from hookline_models.poolers import ClsPooler, LastPooler, MeanPooler


def spec(target: str, *, needs_all_tokens: bool = True) -> PoolerSpec:
    return PoolerSpec(
        name="broken", target=f"{__name__}:{target}", needs_all_tokens=needs_all_tokens, summary="broken on purpose"
    )


class MeanOfMeans(Pooler):
    """Averages the means of the chunks, whatever their lengths."""

    def __init__(self) -> None:
        self._means: list[Tensor] = []

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        self._means.append(hidden_TH.float().mean(0))

    def result(self) -> Tensor:
        return torch.stack(self._means).mean(0)


class TestMeanOfMeans(PoolerSuite):
    spec = spec("MeanOfMeans")
    caught_by = "test_chunks_do_not_change_the_vector"


class HalfSum(Pooler):
    """Adds up in the model's dtype."""

    def __init__(self) -> None:
        self._sum_H: Tensor | None = None
        self._count = 0

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        self._sum_H = hidden_TH.sum(0) if self._sum_H is None else self._sum_H + hidden_TH.sum(0)
        self._count += hidden_TH.shape[0]

    def result(self) -> Tensor:
        assert self._sum_H is not None
        return (self._sum_H / self._count).float()


class TestHalfSum(PoolerSuite):
    spec = spec("HalfSum")
    caught_by = "test_many_chunks_of_half_precision_do_not_lose_digits"


class Undeclared(MeanPooler):
    """Needs all tokens, and does not say so."""


class TestUndeclared(PoolerSuite):
    spec = spec("Undeclared", needs_all_tokens=False)
    caught_by = "test_a_cached_prefix_does_not_change_the_vector"


class Viewing(LastPooler):
    """Keeps a view of the pass's tensor."""

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        self._state_H = hidden_TH[-1]


class TestViewing(PoolerSuite):
    spec = spec("Viewing")
    caught_by = "test_requests_of_one_pass_do_not_mix"


class Shared(Pooler):
    """Keeps its state on the class."""

    total: ClassVar[list[Tensor]] = []

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        self.total.append(hidden_TH.float())

    def result(self) -> Tensor:
        rows = torch.cat(self.total)
        self.total.clear()
        return rows.amax(0)


class TestShared(PoolerSuite):
    spec = spec("Shared")
    caught_by = "test_a_request_that_was_aborted_leaves_nothing_to_the_next"


class Normalising(ClsPooler):
    """Gives a unit vector."""

    def result(self) -> Tensor:
        return torch.nn.functional.normalize(super().result(), dim=0)


class TestNormalising(PoolerSuite):
    spec = spec("Normalising")
    caught_by = "test_the_vector_is_not_normalised"


class Unconverted(Pooler):
    """Answers in the model's dtype."""

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        self._state_H = hidden_TH[-1].clone()

    def result(self) -> Tensor:
        return self._state_H


class TestUnconverted(PoolerSuite):
    spec = spec("Unconverted")
    caught_by = "test_the_vector_is_float32_and_as_wide_as_the_states"


class InPlace(MeanPooler):
    """Scales the states of the pass where they lie."""

    def update(self, hidden_TH: Tensor, is_first: bool, is_last: bool) -> None:
        super().update(hidden_TH.div_(2), is_first, is_last)


class TestInPlace(PoolerSuite):
    spec = spec("InPlace")
    caught_by = "test_the_states_are_left_as_they_were"
