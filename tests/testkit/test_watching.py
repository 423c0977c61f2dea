"""What suites use to see what an implementation does with a tensor or an option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor

from hookline.testkit.device_tensors import on_busy_device
from hookline.testkit.exactness import worst_error
from hookline.testkit.watched_options import watched


class Options(BaseModel):
    size: int = 3
    name: str = "x"


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.tolist(),
        lambda x: x.max().item(),
        lambda x: int(x[1:2]),
        lambda x: bool((x > 1).any()),
        lambda x: [int(value) for value in x],
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x[x > 1],
        lambda x: (x > 1).nonzero(),
        lambda x: torch.arange(4)[x.sum()],
        lambda x: torch.equal(x, x),
    ],
)
def test_reading_a_number_from_a_busy_device_is_an_error(read: Callable[[Tensor], Any]) -> None:
    with pytest.raises(AssertionError, match="waits for the device"):
        read(on_busy_device(torch.arange(3)))


@pytest.mark.parametrize(
    "launch",
    [
        lambda x: x.cumsum(0) - x,
        lambda x: torch.arange(4) < x.unsqueeze(1),
        lambda x: torch.zeros(4, 2).index_select(0, x),
        lambda x: torch.zeros(4, 2)[x],
        lambda x: x.clone().fill_(2),
    ],
)
def test_launching_kernels_is_none(launch: Callable[[Tensor], Any]) -> None:
    launch(on_busy_device(torch.arange(3)))


def test_options_remember_what_was_read() -> None:
    options, read = watched(Options(size=7))
    assert isinstance(options, Options)
    assert read == set()
    assert options.size == 7
    assert read == {"size"}
    options.model_dump()
    assert read == {"size", "name"}


def test_an_error_counts_against_its_own_row() -> None:
    expected = torch.tensor([[1000.0, 0.0], [0.1, 0.0]])
    assert worst_error(expected.clone(), expected) == 0
    assert worst_error(expected + torch.tensor([[0.0], [0.01]]), expected) == pytest.approx(0.1)
    assert worst_error(torch.full((2, 2), float("nan")), expected) == float("inf")
