"""Chosen in a configuration file, the backend writes what the shipped one writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hookline import Engine, SamplingParams

CONFIG = Path(__file__).parents[1] / "hookline.toml"
PROMPTS = ["What is the capital of France?", "Count: 1 2 3 4 5", "Say something."]


def greedy(**settings: Any) -> list[tuple[int, ...]]:
    with Engine("demo", device="cpu", chunked_prefill_size=8, **settings) as engine:
        outputs = engine.generate(PROMPTS, SamplingParams(temperature=0.0, max_new_tokens=24, ignore_eos=True))
    return [tuple(output.output_ids) for output in outputs]


def test_greedy_output_is_that_of_the_shipped_backend() -> None:
    assert greedy(config_files=[CONFIG]) == greedy(attention_backend="torch_native")
