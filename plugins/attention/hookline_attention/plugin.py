"""Table of contents of hookline-attention: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="attention",
    provides=("attention_backends",),
    summary="attention backends",
)
