"""What the plugin offers."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

from hookline.interfaces.scheduling import BatchScheduler, SchedulePolicy
from hookline.interfaces.spec import Spec
from hookline_schedulers import plugin


def load(spec: Spec) -> Any:
    module, _, name = spec.target.partition(":")
    return getattr(importlib.import_module(module), name)


def test_hook_hookline_schedulers() -> None:
    specs = plugin.hookline_schedulers()
    assert [spec.name for spec in specs] == ["default"]
    assert all(issubclass(load(spec), BatchScheduler) for spec in specs)


def test_hook_hookline_schedule_policies() -> None:
    specs = plugin.hookline_schedule_policies()
    assert [spec.name for spec in specs] == ["fcfs", "lpm", "dfs-weight", "lof", "random", "priority"]
    assert all(issubclass(load(spec), SchedulePolicy) for spec in specs)
    assert {spec.name for spec in specs if load(spec).cache_aware} == {"lpm", "dfs-weight"}


def test_the_default_scheduler_needs_no_torch() -> None:
    code = "import sys, hookline_schedulers.default; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
