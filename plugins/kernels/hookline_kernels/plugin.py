"""Table of contents of hookline-kernels: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.kernels import OpSetSpec
from hookline.interfaces.spec import PluginInfo, Requirements
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
            name="triton",
            target="hookline_kernels.triton_set:triton_ops",
            deterministic_target="hookline_kernels.triton_set:deterministic_ops",
            features=frozenset({"deterministic"}),
            requires=Requirements(devices=frozenset({"cuda"}), min_capability=(8, 0), packages=("triton>=3.2",)),
            ops=frozenset(
                {
                    "linear",
                    "logits",
                    "rms_norm",
                    "fused_add_rms_norm",
                    "silu_and_mul",
                    "rope_qkv",
                    "qk_norm_rope",
                    "rope_store",
                    "qk_norm_rope_store",
                    "add_norm_linear",
                    "add_norm_gated",
                    "topk_softmax",
                    "add_norm_route",
                    "fused_moe",
                    "argmax",
                    "log_softmax",
                    "apply_bitmask",
                    "sample_tokens",
                }
            ),
            priority=10,
            summary="Triton kernels: fused norms, rotation, routing, experts and sampling",
        ),
        OpSetSpec(
            name="torch",
            target="hookline_kernels.torch_ops:torch_ops",
            ops=frozenset({"silu_and_mul", "rotary", "topk_softmax", "rms_norm", "fused_moe"}),
            summary="ops in few calls to torch; runs anywhere",
        ),
    ]
