"""Table of contents: what hookline-sdpa offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="sdpa",
    provides=("attention_backends",),
    config_model="hookline_sdpa.options:Options",
    summary="attention by scaled_dot_product_attention",
)


@hookimpl
def hookline_attention_backends() -> list[AttentionBackendSpec]:
    return [
        AttentionBackendSpec(
            name="sdpa",
            target="hookline_sdpa.backend:SdpaAttention",
            features=frozenset({"mask.full", "mask.window", "mixed"}),
            # An example: "auto" prefers every backend that Hookline ships.
            priority=-20,
            summary="one call of scaled_dot_product_attention for each request",
        )
    ]
