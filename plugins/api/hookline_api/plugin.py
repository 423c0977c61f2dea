"""Table of contents of hookline-api: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="api",
    provides=("api_families",),
    summary="native and OpenAI HTTP routes",
)
