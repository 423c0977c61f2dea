"""Table of contents of hookline-models: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="models",
    provides=("models", "checkpoint_sources", "poolers"),
    summary="models, poolers and the Hugging Face hub",
)
