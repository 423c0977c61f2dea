"""Table of contents of hookline-kernels: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="kernels",
    provides=("ops", "logits_processors"),
    summary="op sets",
)
