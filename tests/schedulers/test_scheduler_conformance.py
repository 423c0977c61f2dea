"""The shipped schedulers pass the suite that plugin authors use."""

from __future__ import annotations

from hookline.testkit.schedulers import BatchSchedulerSuite


class TestDefault(BatchSchedulerSuite):
    name = "default"
    policies = ("fcfs", "lpm", "dfs-weight", "lof", "random", "priority")
