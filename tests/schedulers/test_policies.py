"""The order of each policy on fixed queues, ties included, and what cache-aware orders gain."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hookline.interfaces.scheduling import PrefixMatch, SchedulePolicy, SchedulerView
from hookline.testkit.fake_view import FakeReq, FakeView
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.scheduling import VOCAB_SIZE, Harness
from hookline_schedulers.dfs_weight import DfsWeightPolicy
from hookline_schedulers.fcfs import FcfsPolicy
from hookline_schedulers.lof import LofPolicy
from hookline_schedulers.lpm import LpmPolicy
from hookline_schedulers.priority import PriorityPolicy
from hookline_schedulers.shuffle import RandomPolicy


def order(policy: SchedulePolicy, view: SchedulerView) -> list[str]:
    return [req.rid for req in policy.order(view)]


def cached(*lengths: int) -> dict[str, PrefixMatch]:
    return {f"r{i}": PrefixMatch(num_cached_tokens=length) for i, length in enumerate(lengths)}


def queue(count: int) -> list[FakeReq]:
    return [FakeReq(f"r{i}", arrival=i) for i in range(count)]


def test_fcfs_is_the_order_of_arrival() -> None:
    view = FakeView(waiting=[FakeReq("late", 9), FakeReq("early", 1), FakeReq("middle", 5)])
    assert order(FcfsPolicy(), view) == ["early", "middle", "late"]


def test_lpm_takes_the_longest_cached_prefix_and_arrival_among_equals() -> None:
    view = FakeView(waiting=queue(5), matches=cached(3, 9, 3, 0, 9))
    assert order(LpmPolicy(), view) == ["r1", "r4", "r0", "r2", "r3"]


@pytest.mark.parametrize(("length", "first"), [(128, "r127"), (129, "r0")])
def test_lpm_is_fcfs_in_a_queue_of_more_than_128(length: int, first: str) -> None:
    view = FakeView(waiting=queue(length), matches={f"r{length - 1}": PrefixMatch(num_cached_tokens=50)})
    assert order(LpmPolicy(), view)[0] == first
    assert bool(view.asked) == (length == 128)


def test_dfs_weight_visits_heavy_branches_first_and_a_nodes_own_requests_last() -> None:
    paths = {
        "r0": (1,),  # nothing cached
        "r1": (1, 10),  # the own request of a node with children
        "r2": (1, 20),
        "r3": (1, 20),
        "r4": (1, 10, 11),
        "r5": (1, 10, 12),
        "r6": (1, 10, 12),
        "r7": (1, 20),
        "r8": (1, 10, 12, 13),
    }
    matches = {rid: PrefixMatch(num_cached_tokens=0, path=path) for rid, path in paths.items()}
    view = FakeView(waiting=queue(9), matches=matches)
    assert order(DfsWeightPolicy(), view) == ["r8", "r5", "r6", "r4", "r1", "r2", "r3", "r7", "r0"]


def test_dfs_weight_takes_equal_branches_by_arrival() -> None:
    matches = {f"r{i}": PrefixMatch(num_cached_tokens=0, path=(1, path)) for i, path in enumerate((7, 5, 5, 7))}
    assert order(DfsWeightPolicy(), FakeView(waiting=queue(4), matches=matches)) == ["r0", "r3", "r1", "r2"]


def test_dfs_weight_walks_trees_deeper_than_python_recurses() -> None:
    matches = {"r0": PrefixMatch(num_cached_tokens=0, path=tuple(range(5000)))}
    assert order(DfsWeightPolicy(), FakeView(waiting=queue(2), matches=matches)) == ["r0", "r1"]


def test_lof_takes_the_longest_output_and_arrival_among_equals() -> None:
    lengths = (5, 90, 5, 90, 7)
    view = FakeView(waiting=[FakeReq(f"r{i}", i, max_new_tokens=length) for i, length in enumerate(lengths)])
    assert order(LofPolicy(), view) == ["r1", "r3", "r4", "r0", "r2"]


def test_random_is_a_shuffle_that_stays_as_it_is_while_others_come_and_go() -> None:
    view = FakeView(waiting=queue(40))
    first = order(RandomPolicy(seed=1), view)
    assert sorted(first) == sorted(f"r{i}" for i in range(40))
    assert first == order(RandomPolicy(seed=1), view)
    assert first != order(RandomPolicy(seed=2), view)
    assert first != [f"r{i}" for i in range(40)]
    without = [req for req in queue(40) if req.arrival % 3]
    assert order(RandomPolicy(seed=1), FakeView(waiting=without)) == [
        rid for rid in first if int(rid.removeprefix("r")) % 3
    ]


def test_random_is_uniform() -> None:
    firsts = [order(RandomPolicy(seed=seed), FakeView(waiting=queue(4)))[0] for seed in range(2000)]
    assert all(420 < firsts.count(f"r{i}") < 580 for i in range(4))


def test_priority_takes_the_largest_and_arrival_among_equals() -> None:
    priorities = (0, 7, -2, 7)
    view = FakeView(waiting=[FakeReq(f"r{i}", i, priority=priority) for i, priority in enumerate(priorities)])
    assert order(PriorityPolicy(), view) == ["r1", "r3", "r0", "r2"]


def cached_tokens(checkpoint: Path, policy: str) -> int:
    """Cache hits on a workload whose prefixes do not all fit into the pool at once."""
    rng = random.Random(3)
    prefixes = [[rng.randrange(VOCAB_SIZE) for _ in range(80)] for _ in range(6)]
    harness = Harness(checkpoint, FakeWorker(max_total_tokens=320, max_running_requests=2), policy=policy)
    for i in range(60):
        suffix = [rng.randrange(VOCAB_SIZE) for _ in range(8)]
        harness.add(f"{i}", prefixes[rng.randrange(6)] + suffix, 4)
    harness.run()
    harness.assert_idle()
    return int(harness.state["cached_tokens_total"])


@pytest.mark.parametrize("policy", ["lpm", "dfs-weight"])
def test_cache_aware_orders_hit_more_than_fcfs_on_shared_prefixes(checkpoint: Path, policy: str) -> None:
    assert cached_tokens(checkpoint, policy) > 1.3 * cached_tokens(checkpoint, "fcfs")
