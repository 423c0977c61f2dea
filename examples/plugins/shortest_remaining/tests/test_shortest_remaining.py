"""The conformance suite of schedule policies, and the law of this order."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given

from hookline.testkit.fake_view import FakeReq, FakeView
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.policies import SchedulePolicySuite, views
from hookline.testkit.properties import examples
from hookline.testkit.scheduling import Harness
from hookline_shortest_remaining.policy import remaining


class TestShortestRemaining(SchedulePolicySuite):
    name = "shortest-remaining"

    @examples(60)
    @given(view=views())
    def test_nobody_with_more_left_comes_first(self, view: FakeView) -> None:
        left = [remaining(req) for req in self.policy().order(view)]
        assert left == sorted(left)

    def test_prompt_and_output_count_alike(self) -> None:
        waiting = [
            FakeReq("long prompt", 0, num_prompt_tokens=90, max_new_tokens=5),
            FakeReq("long output", 1, num_prompt_tokens=5, max_new_tokens=80),
            FakeReq("both short", 2, num_prompt_tokens=40, max_new_tokens=40),
        ]
        assert self.order_of(waiting) == ["both short", "long output", "long prompt"]

    def test_a_retracted_request_returns_ahead_of_its_equal(self) -> None:
        waiting = [
            FakeReq("new", 0, num_prompt_tokens=20, max_new_tokens=30),
            FakeReq("retracted", 1, num_prompt_tokens=20, max_new_tokens=30, num_output_tokens=25),
        ]
        assert self.order_of(waiting) == ["retracted", "new"]


def test_short_requests_overtake_long_ones_in_an_engine(fake_checkpoint: Path) -> None:
    """One row, so that requests run one after the other; the first runs before the others are known."""
    harness = Harness(fake_checkpoint, FakeWorker(max_running_requests=1), policy="shortest-remaining")
    harness.add("first", range(60), 4)
    harness.step()
    harness.add("long", range(50), 20)
    harness.add("short", range(5), 3)
    harness.add("middle", range(30), 6)
    harness.run()
    harness.assert_idle()
    assert harness.finished == ["first", "short", "middle", "long"]
