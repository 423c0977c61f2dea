"""Table of contents of hookline-lora: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.lora import LoRABackendSpec
from hookline.interfaces.spec import PluginInfo
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="lora",
    provides=("lora_backends",),
    summary="LoRA adapters",
)


@hookimpl
def hookline_lora_backends() -> list[LoRABackendSpec]:
    return [
        LoRABackendSpec(
            name="torch",
            target="hookline_lora.torch_backend:TorchLoRABackend",
            features=frozenset({"deterministic"}),
            summary="several PEFT adapters in one batch, in plain torch",
        )
    ]
