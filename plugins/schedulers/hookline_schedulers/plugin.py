"""Table of contents of hookline-schedulers: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="schedulers",
    provides=("schedulers", "schedule_policies"),
    summary="batch schedulers and policies",
)
