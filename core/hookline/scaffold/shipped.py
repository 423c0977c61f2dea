"""Names that Hookline's own distributions use, whether they are installed here or not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Entry points of plugins that Hookline ships; each lies in the distribution hookline-<name>.
SHIPPED_PLUGINS = (
    "api",
    "attention",
    "demo",
    "grammar",
    "kernels",
    "logits",
    "lora",
    "models",
    "parsers",
    "schedulers",
)
#: Kind of offers -> names that shipped plugins offer.
SHIPPED_OFFERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "api_families": ("native", "openai"),
        "attention_backends": ("torch_native", "triton"),
        "checkpoint_sources": ("demo", "huggingface"),
        "function_call_parsers": ("qwen25",),
        "grammar_backends": ("outlines", "xgrammar"),
        "logits_processors": ("allowed_tokens", "bad_words", "no_repeat_ngram", "thinking_budget"),
        "lora_backends": ("torch",),
        "models": ("llama", "qwen2", "qwen3", "qwen3_moe", "qwen3_vl_moe"),
        "ops": ("torch", "triton"),
        "poolers": ("cls", "last", "mean"),
        "reasoning_parsers": ("think",),
        "schedule_policies": ("dfs-weight", "fcfs", "lof", "lpm", "priority", "random"),
        "schedulers": ("default",),
    }
)
