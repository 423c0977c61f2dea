"""Table of contents of hookline-lora: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="lora",
    provides=("lora_backends",),
    summary="LoRA adapters",
)
