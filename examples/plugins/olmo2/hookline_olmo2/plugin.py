"""Table of contents of hookline-olmo2: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(name="olmo2", provides=("models",), summary="OLMo 2")


@hookimpl
def hookline_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="olmo2",
            target="hookline_olmo2.model:Olmo2ForCausalLM",
            architectures=("Olmo2ForCausalLM",),
            features=frozenset({"lora", "embedding", "tied_embeddings"}),
            summary="OLMo 2: norms after attention and MLP",
        )
    ]
