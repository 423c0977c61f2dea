"""Table of contents of hookline-schedulers: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.scheduling import SchedulePolicySpec, SchedulerSpec
from hookline.interfaces.spec import PluginInfo
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="schedulers",
    provides=("schedulers", "schedule_policies"),
    summary="batch schedulers and policies",
)


@hookimpl
def hookline_schedulers() -> list[SchedulerSpec]:
    return [
        SchedulerSpec(
            name="default",
            target="hookline_schedulers.default:DefaultScheduler",
            summary="prefill first, in chunks; retracts when memory is short",
        )
    ]


@hookimpl
def hookline_schedule_policies() -> list[SchedulePolicySpec]:
    return [
        SchedulePolicySpec(name="fcfs", target="hookline_schedulers.fcfs:FcfsPolicy", summary="order of arrival"),
        SchedulePolicySpec(
            name="lpm", target="hookline_schedulers.lpm:LpmPolicy", summary="longest cached prefix first"
        ),
        SchedulePolicySpec(
            name="dfs-weight",
            target="hookline_schedulers.dfs_weight:DfsWeightPolicy",
            summary="depth first through the prefix tree, most wanted branch first",
        ),
        SchedulePolicySpec(name="lof", target="hookline_schedulers.lof:LofPolicy", summary="longest output first"),
        SchedulePolicySpec(
            name="random", target="hookline_schedulers.shuffle:RandomPolicy", summary="shuffled by the seed"
        ),
        SchedulePolicySpec(
            name="priority", target="hookline_schedulers.priority:PriorityPolicy", summary="larger priority first"
        ),
    ]
