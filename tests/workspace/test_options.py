"""The settings, all of them. A new one is added here too: it is then meant, documented and supported."""

from __future__ import annotations

from pathlib import Path

from hookline.config.settings import all_settings
from hookline.config.toml import toml_value

ROOT = Path(__file__).parents[2]

OPTIONS = {
    "": [
        "schema_version",
        "plugins",
        "required_plugins",
        "disabled_plugins",
        "prefer",
    ],
    "server": [
        "host",
        "port",
        "api_key",
        "admin_key",
        "served_model_name",
        "api_families",
        "cors_allow_origins",
        "tls_cert_file",
        "tls_key_file",
        "max_request_bytes",
        "max_concurrent_requests",
        "strict_requests",
        "drain_timeout",
        "warmup",
    ],
    "model": [
        "model",
        "revision",
        "tokenizer",
        "skip_tokenizer_init",
        "max_model_len",
        "dtype",
        "load_format",
        "moe_expert_layout",
        "chat_template",
        "offline",
        "sampling_defaults",
        "preferred_sampling_params",
    ],
    "execution": [
        "device",
        "ops",
        "cpu_threads",
        "deterministic",
        "disable_overlap_schedule",
        "disable_cuda_graph",
        "cuda_graph_max_bs",
        "kernel_cache_dir",
        "seed",
    ],
    "attention": [
        "attention_backend",
    ],
    "cache": [
        "page_size",
        "kv_cache_tokens",
        "kv_cache_gib",
        "memory_fraction",
        "enable_prefix_cache",
        "eviction_policy",
    ],
    "schedule": [
        "scheduler",
        "schedule_policy",
        "max_running_requests",
        "max_queued_requests",
        "chunked_prefill_size",
        "max_prefill_tokens",
        "enable_mixed_chunk",
        "schedule_conservativeness",
        "enable_priority",
        "low_priority_first",
        "priority_preemption_threshold",
    ],
    "multimodal": [
        "max_images",
        "max_videos",
        "max_image_bytes",
        "max_video_bytes",
        "max_image_megapixels",
        "max_video_megapixels",
        "image_min_pixels",
        "image_max_pixels",
        "video_min_pixels",
        "video_max_pixels",
        "allowed_media_hosts",
        "allow_private_media_hosts",
        "allowed_media_paths",
        "media_timeout",
        "max_media_redirects",
        "media_fetches",
        "media_decoders",
        "media_decode_timeout",
        "media_decode_gib",
        "media_pool_gib",
        "media_pool_timeout",
        "encoder_patch_budget",
        "encoder_attention",
        "embedding_cache_gib",
        "embedding_host_gib",
    ],
    "grammar": [
        "grammar_backend",
        "grammar_timeout",
        "grammar_workers",
        "grammar_memory_bytes",
        "grammar_step_timeout",
        "grammar_jump_forward",
        "grammar_cache_bytes",
    ],
    "output": [
        "reasoning_parser",
        "tool_call_parser",
        "unknown_functions",
        "stream_interval",
    ],
    "lora": [
        "lora_backend",
        "lora_adapters",
        "max_loras",
        "max_lora_rank",
    ],
    "parallel": [
        "tp_size",
    ],
    "observability": [
        "log_level",
        "log_format",
        "log_requests",
        "health_timeout",
        "check_ledger",
    ],
}


def listed() -> list[str]:
    return [f"{section}.{leaf}" if section else leaf for section, leaves in OPTIONS.items() for leaf in leaves]


def test_options_are_listed() -> None:
    assert sorted(all_settings()) == sorted(listed())


def test_options_are_documented_as_they_are() -> None:
    """The tables in docs/configuration.md hold exactly these rows, in this order."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    rows = [line for line in text.split("## All settings")[1].splitlines() if line.startswith("| `")]
    expected = []
    for setting in all_settings().values():
        if setting.section:
            default = "null" if setting.default is None else toml_value(setting.default)
            expected.append(f"| `{setting.leaf}` | `{default}` | {setting.expected} | {setting.description} |")
    assert rows == expected
    sections = [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")]
    assert sections == [section for section in OPTIONS if section]


def test_what_stands_outside_the_sections_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert [name for name in OPTIONS[""] if f"| `{name}` |" not in text] == []
