"""What hookline-demo offers: the checkpoint named `demo`, and that it serves when none is named."""

from __future__ import annotations

from hookline.interfaces.checkpoints import CheckpointSourceSpec
from hookline.interfaces.spec import PluginInfo
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="demo",
    provides=("checkpoint_sources",),
    summary="a small trained Qwen3-VL-MoE checkpoint, with two LoRA adapters",
)


@hookimpl
def hookline_checkpoint_sources() -> list[CheckpointSourceSpec]:
    return [
        CheckpointSourceSpec(
            name="demo",
            target="hookline_demo.source:DemoCheckpointSource",
            checkpoints=(("demo", "9 million parameters: pictures of shapes, sums, facts, tools, words"),),
            default="demo",
            summary="the demo checkpoint that comes with the package",
        )
    ]
