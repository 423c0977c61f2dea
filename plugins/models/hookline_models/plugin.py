"""Table of contents of hookline-models: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.checkpoints import CheckpointSourceSpec
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.pooling import PoolerSpec
from hookline.interfaces.spec import PluginInfo
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="models",
    provides=("models", "checkpoint_sources", "poolers"),
    summary="models, poolers and the Hugging Face hub",
)

_TEXT = frozenset({"lora", "embedding", "tied_embeddings"})
_QWEN_TOOLS = {"output.tool_call_parser": "qwen25"}
_QWEN3_VL_PROCESSOR = "hookline_models.qwen3_vl.processor:Qwen3VLProcessor"
_QWEN3_OUTPUT = {"output.reasoning_parser": "think", **_QWEN_TOOLS}


@hookimpl
def hookline_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="llama",
            target="hookline_models.llama:LlamaForCausalLM",
            architectures=("LlamaForCausalLM",),
            features=_TEXT,
            summary="Llama 2 and 3",
        ),
        ModelSpec(
            name="qwen2",
            target="hookline_models.qwen2:Qwen2ForCausalLM",
            architectures=("Qwen2ForCausalLM",),
            features=_TEXT,
            defaults=_QWEN_TOOLS,
            summary="Qwen2 and Qwen2.5",
        ),
        ModelSpec(
            name="qwen3",
            target="hookline_models.qwen3:Qwen3ForCausalLM",
            architectures=("Qwen3ForCausalLM",),
            features=_TEXT,
            defaults=_QWEN3_OUTPUT,
            summary="Qwen3, dense",
        ),
        ModelSpec(
            name="qwen3_moe",
            target="hookline_models.qwen3_moe:Qwen3MoeForCausalLM",
            architectures=("Qwen3MoeForCausalLM",),
            features=_TEXT,
            defaults=_QWEN3_OUTPUT,
            summary="Qwen3, mixture of experts",
        ),
        ModelSpec(
            name="qwen3_vl_moe",
            target="hookline_models.qwen3_vl.model:Qwen3VLMoeForConditionalGeneration",
            architectures=("Qwen3VLMoeForConditionalGeneration",),
            position_planes=3,
            features=_TEXT | {"mrope", "multimodal"},
            processor=_QWEN3_VL_PROCESSOR,
            defaults=_QWEN3_OUTPUT,
            summary="Qwen3-VL, mixture of experts: text, pictures and video",
        ),
        ModelSpec(
            name="qwen3_vl",
            target="hookline_models.qwen3_vl.model:Qwen3VLForConditionalGeneration",
            architectures=("Qwen3VLForConditionalGeneration",),
            position_planes=3,
            features=_TEXT | {"mrope", "multimodal"},
            processor=_QWEN3_VL_PROCESSOR,
            defaults=_QWEN3_OUTPUT,
            summary="Qwen3-VL, dense: text, pictures and video",
        ),
        ModelSpec(
            name="llava",
            target="hookline_models.llava.model:LlavaForConditionalGeneration",
            architectures=("LlavaForConditionalGeneration",),
            features=_TEXT | {"multimodal"},
            processor="hookline_models.llava.processor:LlavaProcessor",
            summary="LLaVA with CLIP or SigLIP and Llama or Qwen2: text and pictures",
        ),
    ]


@hookimpl
def hookline_checkpoint_sources() -> list[CheckpointSourceSpec]:
    return [
        CheckpointSourceSpec(
            name="huggingface",
            target="hookline_models.hub:HuggingFaceHub",
            claims_ids=True,
            summary="checkpoints by Hugging Face id, downloaded once and cached",
        )
    ]


@hookimpl
def hookline_poolers() -> list[PoolerSpec]:
    return [
        PoolerSpec(name="last", target="hookline_models.poolers:LastPooler", summary="the last token's state"),
        PoolerSpec(
            name="cls",
            target="hookline_models.poolers:ClsPooler",
            needs_all_tokens=True,
            summary="the first token's state",
        ),
        PoolerSpec(
            name="mean",
            target="hookline_models.poolers:MeanPooler",
            needs_all_tokens=True,
            summary="the mean over all tokens",
        ),
    ]
