"""Table of contents: what hookline-shortest-remaining offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.scheduling import SchedulePolicySpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="shortest-remaining", provides=("schedule_policies",), summary="requests with few tokens left first"
)


@hookimpl
def hookline_schedule_policies() -> list[SchedulePolicySpec]:
    return [
        SchedulePolicySpec(
            name="shortest-remaining",
            target="hookline_shortest_remaining.policy:ShortestRemaining",
            summary="fewest tokens left first, prompt and output together",
        )
    ]
