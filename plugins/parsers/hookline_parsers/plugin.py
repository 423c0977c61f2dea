"""Table of contents of hookline-parsers: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="parsers",
    provides=("reasoning_parsers", "function_call_parsers"),
    summary="reasoning and tool-call formats",
)
