"""The shipped policies pass the suite that plugin authors use."""

from __future__ import annotations

from hookline.testkit.policies import SchedulePolicySuite


class TestFcfs(SchedulePolicySuite):
    name = "fcfs"


class TestLpm(SchedulePolicySuite):
    name = "lpm"


class TestDfsWeight(SchedulePolicySuite):
    name = "dfs-weight"


class TestLof(SchedulePolicySuite):
    name = "lof"


class TestPriority(SchedulePolicySuite):
    name = "priority"


class TestRandom(SchedulePolicySuite):
    name = "random"
    keeps_arrival = False
