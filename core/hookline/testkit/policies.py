"""SchedulePolicySuite: a policy is a pure order of the waiting queue."""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.interfaces.scheduling import PrefixMatch, SchedulePolicy, SchedulePolicySpec
from hookline.plugins.plan import PluginPlan
from hookline.testkit.fake_view import ROOT, FakeReq, FakeView
from hookline.testkit.offer_suite import OfferSuite, in_child, installed
from hookline.testkit.plans import chosen_offer
from hookline.testkit.properties import examples
from hookline.testkit.workloads import Bench, SchedulerUnderTest, workloads

#: Prompt tokens, output tokens, tokens it may have, priority, which of a few prompts, which branch of the cache.
_Row = tuple[int, int, int, int, int, str]
#: Branches of the prefix cache that requests of a queue may match: each letter is a node below the one before.
_BRANCHES = ["", "", "a", "ab", "abd", "ac", "e"]


def views(max_size: int = 12) -> st.SearchStrategy[FakeView]:
    """Queues whose requests differ in everything that a policy may look at, some of them equal in all of it, some
    of them retracted; with and without a prefix cache."""
    rows = st.tuples(
        st.sampled_from([1, 7, 40]),
        st.sampled_from([0, 0, 1, 9]),
        st.sampled_from([9, 16, 64]),
        st.sampled_from([-2, 0, 0, 5]),
        st.integers(0, 2),
        st.sampled_from(_BRANCHES),
    )
    return st.builds(_view, st.lists(rows, max_size=max_size), st.booleans())


def sample_views() -> list[FakeView]:
    """A few views, the same in every process."""
    draw = random.Random(1)
    return [
        _view(
            [
                (
                    draw.choice([1, 7, 40]),
                    draw.choice([0, 9]),
                    draw.choice([9, 16]),
                    draw.choice([0, 5]),
                    draw.randrange(3),
                    draw.choice(_BRANCHES),
                )
                for _ in range(30)
            ],
            cache,
        )
        for cache in (True, False)
        for _ in range(3)
    ]


def _view(rows: Sequence[_Row], cache: bool) -> FakeView:
    waiting = []
    matches = {}
    for arrival, (num_prompt, num_output, max_new, priority, prompt, branch) in enumerate(rows):
        req = FakeReq(
            rid=f"r{arrival}",
            arrival=arrival,
            token_ids=np.arange(num_prompt + num_output) + 1000 * prompt,
            num_output_tokens=num_output,
            max_new_tokens=max_new,
            priority=priority,
        )
        waiting.append(req)
        path = (ROOT, *(ROOT + ord(node) for node in branch))
        matches[req.rid] = PrefixMatch(num_cached_tokens=min(3 * len(branch), req.max_cached_tokens), path=path)
    return FakeView(waiting=waiting, matches=matches, has_prefix_cache=cache)


def order(policy: SchedulePolicy, view: FakeView) -> list[str]:
    """The ids of the waiting requests in the policy's order."""
    return [req.rid for req in policy.order(view)]


def print_orders() -> None:
    """Runs in a child process: the plan comes from standard input, the orders go to standard output."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=PluginPlan)
    target = plan.load(plan.one(SchedulePolicySpec.kind))
    sys.stdout.write(json.dumps([order(target(seed), view) for seed in (0, 7) for view in sample_views()]))


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
    def order_of(
        cls,
        waiting: Sequence[FakeReq],
        *,
        seed: int = 0,
        has_prefix_cache: bool = True,
        matches: Mapping[str, PrefixMatch] | None = None,
    ) -> list[str]:
        """The ids in the policy's order; ``matches`` says by id what the prefix cache holds."""
        view = FakeView(waiting=waiting, has_prefix_cache=has_prefix_cache, matches=matches or {})
        return order(cls.policy(seed), view)

    @examples(60)
    @given(view=views())
    def test_every_request_comes_exactly_once(self, view: FakeView) -> None:
        """Retracted ones too, which have output."""
        assert sorted(order(self.policy(), view)) == sorted(req.rid for req in view.waiting)

    @pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])
    def test_a_long_queue_comes_whole(self, cache: bool) -> None:
        waiting = [
            FakeReq(f"r{i}", i, priority=i % 3, max_new_tokens=9 + i % 5, num_cached_tokens=i % 7) for i in range(3000)
        ]
        found = self.order_of(waiting, has_prefix_cache=cache)
        assert sorted(found) == sorted(req.rid for req in waiting)

    @examples(60)
    @given(view=views())
    def test_the_same_view_and_seed_give_the_same_order(self, view: FakeView) -> None:
        assert order(self.policy(seed=3), view) == order(self.policy(seed=3), view)

    @examples(60)
    @given(before=views(), view=views())
    def test_what_was_asked_before_does_not_matter(self, before: FakeView, view: FakeView) -> None:
        """Ranks that were started at different times must agree."""
        policy = self.policy()
        policy.order(before)
        policy.order(view)
        assert order(policy, view) == order(self.policy(), view)

    def test_every_process_has_the_same_order(self) -> None:
        """No chance, no clock, no order of a set: every rank plans for itself."""
        plan = PluginPlan(chosen=[chosen_offer(self.offer())], source_paths=installed().source_paths)
        source = f"from {__name__} import print_orders; print_orders()"
        first, second = (in_child(source, msgspec.json.encode(plan), hash_seed=seed) for seed in (1, 2))
        assert json.loads(first) == json.loads(second)

    @examples(60)
    @given(view=views())
    def test_the_view_is_left_as_it_was(self, view: FakeView) -> None:
        before = copy.deepcopy(view.waiting)
        order(self.policy(), view)
        assert view.waiting == before

    @examples(60)
    @given(view=views())
    def test_equal_requests_keep_their_arrival(self, view: FakeView) -> None:
        """Two equal requests must not overtake each other, or one of them may wait for ever."""
        if not self.keeps_arrival:
            pytest.skip("the order is not meant to keep the arrival of equal requests")
        by_rid = {req.rid: req for req in view.waiting}
        last: dict[tuple[object, ...], int] = {}
        for rid in order(self.policy(), view):
            req = by_rid[rid]
            looks = (
                *(req.num_tokens, req.num_output_tokens, req.max_new_tokens, req.priority),
                *(int(req.token_ids[0]), view.match(req).path),
            )
            assert last.get(looks, -1) < req.arrival, f"{rid} comes after an equal one that came later"
            last[looks] = req.arrival

    @examples(60)
    @given(view=views())
    def test_the_cache_is_read_only_as_announced(self, view: FakeView) -> None:
        """``cache_aware`` tells the scheduler what an order costs, and that it is that of arrival without a cache."""
        policy = self.policy()
        found = order(policy, view)
        if not policy.cache_aware:
            assert view.asked == [], "set cache_aware = True"
        elif not view.has_prefix_cache:
            assert found == [req.rid for req in view.waiting], "without a cache, this is not the order of arrival"

    @examples(20)
    @given(data=st.data())
    def test_all_requests_end_under_an_installed_scheduler(self, data: st.DataObject, fake_checkpoint: Path) -> None:
        """On the fake device, whose ledger is checked after every step."""
        schedulers = installed().of_kind("schedulers")
        if not schedulers:
            pytest.skip("no scheduler is installed: pip install hookline-schedulers")
        spec = chosen_offer(self.offer())
        subject = SchedulerUnderTest(spec=chosen_offer(schedulers[0]), policies=[spec])
        bench = Bench(fake_checkpoint, subject, data.draw(workloads([spec.name])))
        bench.run()
        bench.check_output()
