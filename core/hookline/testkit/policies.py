"""SchedulePolicySuite: a policy is a pure order of the waiting queue."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.interfaces.scheduling import SchedulePolicy, SchedulePolicySpec
from hookline.testkit.fake_view import FakeReq, FakeView
from hookline.testkit.offer_suite import OfferSuite
from hookline.testkit.properties import examples


def queues(max_size: int = 12) -> st.SearchStrategy[list[FakeReq]]:
    """Queues whose requests differ in everything that a policy may look at."""
    numbers = st.tuples(
        st.integers(1, 40), st.integers(0, 9), st.integers(1, 64), st.integers(-2, 2), st.integers(0, 20)
    )

    def build(rows: list[tuple[int, int, int, int, int]]) -> list[FakeReq]:
        return [
            FakeReq(
                rid=f"r{arrival}",
                arrival=arrival,
                num_prompt_tokens=prompt,
                num_output_tokens=output,
                max_new_tokens=new,
                priority=priority,
                num_cached_tokens=min(cached, prompt + output - 1),
            )
            for arrival, (prompt, output, new, priority, cached) in enumerate(rows)
        ]

    return st.lists(numbers, max_size=max_size).map(build)


class SchedulePolicySuite(OfferSuite[SchedulePolicySpec]):
    """Order laws. Add tests of your own for what your order promises; ``order_of`` runs the policy."""

    kind = "schedule_policies"

    #: Whether equal requests run in the order in which they came; false for an order that shuffles on purpose.
    keeps_arrival: ClassVar[bool] = True

    @classmethod
    def policy(cls, seed: int = 0) -> SchedulePolicy:
        policy = cls.target()(seed)
        assert isinstance(policy, SchedulePolicy), "the target must be a subclass of SchedulePolicy"
        return policy

    @classmethod
    def order_of(cls, waiting: Sequence[FakeReq], *, seed: int = 0, has_prefix_cache: bool = True) -> list[str]:
        """The ids in the policy's order."""
        view = FakeView(waiting=waiting, has_prefix_cache=has_prefix_cache)
        return [req.rid for req in cls.policy(seed).order(view)]

    @examples(60)
    @given(waiting=queues(), cache=st.booleans())
    def test_every_request_comes_exactly_once(self, waiting: list[FakeReq], cache: bool) -> None:
        order = self.order_of(waiting, has_prefix_cache=cache)
        assert sorted(order) == sorted(req.rid for req in waiting)

    @examples(60)
    @given(waiting=queues(), cache=st.booleans())
    def test_the_same_view_and_seed_give_the_same_order(self, waiting: list[FakeReq], cache: bool) -> None:
        first = self.order_of(waiting, seed=3, has_prefix_cache=cache)
        assert self.order_of(waiting, seed=3, has_prefix_cache=cache) == first

    @examples(60)
    @given(waiting=queues())
    def test_the_view_is_left_as_it_was(self, waiting: list[FakeReq]) -> None:
        given_order = copy.deepcopy(waiting)
        self.order_of(waiting)
        assert waiting == given_order

    @examples(60)
    @given(count=st.integers(0, 8))
    def test_equal_requests_keep_their_arrival(self, count: int) -> None:
        """Two equal requests must not overtake each other, or one of them may wait for ever."""
        if not self.keeps_arrival:
            pytest.skip("the order is not meant to keep the arrival of equal requests")
        waiting = [FakeReq(rid=f"r{arrival}", arrival=arrival) for arrival in range(count)]
        assert self.order_of(waiting) == [req.rid for req in waiting]
