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
    "media",
    "models",
    "parsers",
    "schedulers",
)
#: Kind of offers -> names that shipped plugins offer.
SHIPPED_OFFERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "api_families": ("anthropic", "native", "openai", "responses"),
        "attention_backends": ("flashinfer", "torch_native", "triton"),
        "checkpoint_sources": ("demo", "huggingface"),
        "function_call_parsers": (
            "deepseekv3",
            "deepseekv31",
            "deepseekv32",
            "glm45",
            "glm47",
            "gpt-oss",
            "hermes",
            "interns1",
            "kimi_k2",
            "llama3",
            "mimo",
            "minimax-m2",
            "mistral",
            "mistral-compact",
            "pythonic",
            "qwen25",
            "qwen3_coder",
            "step3",
        ),
        "grammar_backends": ("llguidance", "outlines", "xgrammar"),
        "logits_processors": ("allowed_tokens", "bad_words", "no_repeat_ngram"),
        "lora_backends": ("torch",),
        "media_loaders": ("files", "inline", "web"),
        "models": ("llama", "llava", "qwen2", "qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_moe"),
        "ops": ("torch", "triton"),
        "poolers": ("cls", "last", "mean"),
        "reasoning_parsers": (
            "deepseek-r1",
            "deepseek-v3",
            "glm45",
            "gpt-oss",
            "interns1",
            "kimi",
            "kimi_k2",
            "minimax",
            "qwen3",
            "qwen3-thinking",
            "step3",
            "think",
        ),
        "schedule_policies": ("dfs-weight", "fcfs", "lof", "lpm", "priority", "random"),
        "schedulers": ("default",),
    }
)
