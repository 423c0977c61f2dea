"""Table of contents of hookline-kernels: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.kernels import OpSetSpec
from hookline.interfaces.spec import PluginInfo
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="kernels",
    provides=("ops",),
    summary="op sets",
)


@hookimpl
def hookline_ops() -> list[OpSetSpec]:
    return [
        OpSetSpec(
            name="torch",
            target="hookline_kernels.torch_ops:torch_ops",
            ops=frozenset({"silu_and_mul", "rotary", "topk_softmax", "rms_norm", "fused_moe"}),
            summary="ops in few calls to torch; runs anywhere",
        )
    ]
