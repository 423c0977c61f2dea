"""Table of contents of hookline-deepseek-vl: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(name="deepseek_vl", provides=("models",), summary="DeepSeek-VL")


@hookimpl
def hookline_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="deepseek_vl",
            target="hookline_deepseek_vl.model:DeepseekVLForConditionalGeneration",
            architectures=("DeepseekVLForConditionalGeneration",),
            features=frozenset({"lora", "tied_embeddings", "multimodal"}),
            processor="hookline_deepseek_vl.processor:DeepseekVLProcessor",
            summary="DeepSeek-VL: a SigLIP tower before a Llama decoder",
        )
    ]
