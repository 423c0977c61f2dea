"""A grammar that takes long for each token ends its own request."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from hookline.errors import RequestError
from hookline.scheduler.grammar_steps import BoundedMatcher
from tests.factories.fake_grammar import FakeMatcher


class Slow(FakeMatcher):
    """Takes the next of ``steps`` seconds for each step."""

    def __init__(self, steps: list[float]) -> None:
        super().__init__([{5}] * 1000, (2,))
        self.now = 0.0
        self._steps = iter(steps)

    def accept_token(self, token_id: int) -> bool:
        self.now += next(self._steps)
        return super().accept_token(token_id)

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        self.now += next(self._steps)
        super().fill_bitmask(bitmask_BW, row)


def steps_taken(steps: list[float], limit: float = 1.0) -> int:
    """Steps before the matcher refuses to go on."""
    slow = Slow(steps)
    bounded = BoundedMatcher(slow, limit, clock=lambda: slow.now)
    mask_BW = np.zeros((1, 4), dtype=np.int32)
    for number in range(len(steps)):
        try:
            if number % 2:
                assert bounded.accept_token(5)
            else:
                bounded.fill_bitmask(mask_BW, 0)
        except RequestError:
            return number
    return len(steps)


@pytest.mark.parametrize(
    ("steps", "taken"),
    [
        ([0.1] * 100, 100),
        ([0.01, 1.01], 1),
        ([0.01, 0.01, 1.01], 2),
        # 0.4 s each beyond a tenth: the third makes it more than a second.
        ([0.5] * 10, 2),
        # Cheap ones pay for dear ones.
        ([0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0] * 20, 180),
        ([0.2] * 100, 10),
    ],
)
def test_steps_are_bounded_each_and_on_average(steps: list[float], taken: int) -> None:
    assert steps_taken(steps) == taken


def test_the_error_is_the_clients() -> None:
    slow = Slow([2.0])
    with pytest.raises(RequestError, match="takes too long for each token") as caught:
        BoundedMatcher(slow, 1.0, clock=lambda: slow.now).accept_token(5)
    assert (caught.value.code, caught.value.status_code) == ("grammar_too_slow", 400)


def test_everything_else_is_the_matchers() -> None:
    bounded = BoundedMatcher(FakeMatcher([{5}], (2,)), 1.0)
    assert not bounded.accept_token(6)
    assert bounded.accept_token(5)
    assert bounded.accept_token(2)
    assert bounded.is_terminated
    bounded.rollback(1)
    assert not bounded.is_terminated
