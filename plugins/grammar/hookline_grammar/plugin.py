"""Table of contents of hookline-grammar: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="grammar",
    provides=("grammar_backends",),
    summary="constrained output",
)
