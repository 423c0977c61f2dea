"""Attention backends of Hookline: the table of contents."""

from __future__ import annotations

from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.spec import PluginInfo, Requirements
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(name="attention", provides=("attention_backends",), summary="attention in torch and in Triton")


@hookimpl
def hookline_attention_backends() -> list[AttentionBackendSpec]:
    return [
        AttentionBackendSpec(
            name="torch_native",
            target="hookline_attention.torch_native:TorchNativeAttention",
            features=frozenset({"mask.full", "mask.window", "mixed", "deterministic"}),
            # A last resort where faster backends exist; alone on CPU.
            priority=-10,
            summary="scaled_dot_product_attention over gathered keys; runs anywhere",
        ),
        AttentionBackendSpec(
            name="triton",
            target="hookline_attention.triton_attention.backend:TritonAttention",
            requires=Requirements(devices=frozenset({"cuda"}), min_capability=(8, 0), packages=("triton>=3.2",)),
            features=frozenset(
                {"mask.full", "mask.window", "mask.tree", "softcap", "sinks", "graphs", "mixed", "deterministic"}
            ),
            summary="Triton kernels: decode split over keys, extend over prefix and new tokens",
        ),
    ]
