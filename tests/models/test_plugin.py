"""What hookline-models offers."""

from __future__ import annotations

from hookline_models.plugin import hookline_models


def test_hook_hookline_models() -> None:
    # What each of them must do is in test_model_conformance.
    names = [spec.name for spec in hookline_models()]
    assert names == ["llama", "qwen2", "qwen3", "qwen3_moe", "qwen3_vl_moe", "qwen3_vl", "llava"]
