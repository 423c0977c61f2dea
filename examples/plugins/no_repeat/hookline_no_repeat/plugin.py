"""Table of contents: what hookline-no-repeat offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.logits import LogitsProcessorSpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="no-repeat",
    provides=("logits_processors",),
    summary="no sequence of tokens comes twice",
)


@hookimpl
def hookline_logits_processors() -> list[LogitsProcessorSpec]:
    return [
        LogitsProcessorSpec(
            name="no-repeat",
            target="hookline_no_repeat.processor:NoRepeat",
            summary="{size, output_only}: no sequence of so many tokens twice",
        )
    ]
