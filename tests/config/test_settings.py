"""Settings as data: unique names, texts parsed by type, and words for what is expected."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hookline.config.schema import HooklineConfig
from hookline.config.settings import all_settings, parse_scalar, section_help


def test_leaf_names_are_unique() -> None:
    counts = Counter(setting.leaf for setting in all_settings().values())
    assert [leaf for leaf, count in counts.items() if count > 1] == []


def test_every_setting_has_one_line_of_help() -> None:
    missing = [
        setting.path
        for setting in all_settings().values()
        if setting.section and not 5 < len(setting.description) < 120
    ]
    assert missing == []


def test_defaults_are_valid() -> None:
    assert HooklineConfig.model_validate(HooklineConfig().model_dump()) == HooklineConfig()


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("server.port", "8080", 8080),
        ("server.host", "8080", "8080"),
        ("server.warmup", "off", False),
        ("server.warmup", "True", True),
        ("server.api_families", "native,openai", ["native", "openai"]),
        ("server.api_families", "", []),
        ("server.api_families", '["a", "b"]', ["a", "b"]),
        ("cache.page_size", "16", 16),
        ("cache.page_size", "auto", "auto"),
        ("cache.kv_cache_gib", "2", 2.0),
        ("cache.kv_cache_tokens", "null", None),
        ("execution.ops", "auto", "auto"),
        ("execution.ops", "a,b", ["a", "b"]),
        ("output.reasoning_parser", "none", None),
        ("output.reasoning_parser", "think", "think"),
        ("grammar.grammar_backend", "none", "none"),
        ("schedule.chunked_prefill_size", "None", None),
        ("lora.lora_adapters", "a=/x,b=/y", {"a": "/x", "b": "/y"}),
        ("lora.lora_adapters", "{a: /x}", {"a": "/x"}),
        ("model.preferred_sampling_params", '{"temperature": 0.5}', {"temperature": 0.5}),
        ("parallel.tp_size", "1", 1),
        # What does not fit stays text, for the schema to refuse.
        ("server.port", "many", "many"),
        ("server.warmup", "maybe", "maybe"),
        ("lora.lora_adapters", "nonsense", "nonsense"),
    ],
)
def test_text_becomes_a_value_of_the_settings_type(path: str, text: str, value: Any) -> None:
    assert all_settings()[path].parse(text) == value


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("server.port", "an integer of at least 0 and at most 65535"),
        ("cache.page_size", "an integer of at least 1 or 'auto'"),
        ("cache.kv_cache_gib", "a number of more than 0 or null"),
        ("execution.device", "one of 'auto', 'cpu', 'cuda'"),
        ("execution.ops", "a list of texts or 'auto'"),
        ("server.warmup", "true or false"),
        ("lora.lora_adapters", "a table of texts"),
    ],
)
def test_expected_values_in_words(path: str, words: str) -> None:
    assert all_settings()[path].expected == words


def test_untyped_text_is_read_as_yaml() -> None:
    assert [parse_scalar(text) for text in ("1", "true", "[1, x]", "text", "", "{")] == [
        1,
        True,
        [1, "x"],
        "text",
        "",
        "{",
    ]


def test_sections_have_help() -> None:
    assert section_help("cache") == "KV cache and prefix reuse."
