"""Grammars beside everything else that a request may ask, on a real worker: schedules change nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookline import Engine, SamplingParams

#: Finite, with forced and free stretches.
PATTERN = r"(yes|no), code=[0-9]{3,8}; (alpha|beta)-[a-f]{2,12}\."
SETTINGS: dict[str, dict[str, Any]] = {
    "overlap": {},
    "no overlap": {"disable_overlap_schedule": True},
    "chunks": {"chunked_prefill_size": 8},
    "small pool": {"kv_cache_tokens": 160, "disable_overlap_schedule": False},
    "small pool, no overlap": {"kv_cache_tokens": 160, "disable_overlap_schedule": True},
}


def requests(engine: Engine) -> list[SamplingParams]:
    """Constrained in every way, and some free ones between them."""
    letters = {token: 100.0 for token in range(engine.vocab_size) if token % 3 == 0}
    common: dict[str, Any] = {"regex": PATTERN, "max_new_tokens": 48}
    return [
        SamplingParams(**common, temperature=0.0),
        SamplingParams(**common, seed=1, n=3),
        SamplingParams(**common, seed=2, ignore_eos=True),
        SamplingParams(**common, seed=3, min_new_tokens=40),
        SamplingParams(**common, seed=4, logit_bias=letters, frequency_penalty=1.5),
        SamplingParams(**common, seed=5, stop=("code",)),
        SamplingParams(regex=PATTERN, seed=6, max_new_tokens=5),
        SamplingParams(seed=7, max_new_tokens=30, ignore_eos=True),
        SamplingParams(seed=8, max_new_tokens=30, ignore_eos=True, frequency_penalty=0.5),
    ]


def outputs(checkpoint: Path, settings: dict[str, Any]) -> list[tuple[str, str, object]]:
    with Engine(checkpoint, dtype="float32", check_ledger=True, max_running_requests=8, **settings) as engine:
        params = requests(engine)
        prompts = [list(range(10 + index, 30 + index)) for index in range(len(params))]
        found = engine.generate(input_ids=prompts, sampling_params=params)
    return [(output.text, output.finish_reason.type, output.finish_reason.matched) for output in found]


@pytest.fixture(scope="module")
def expected(checkpoint: Callable[[str], Path]) -> list[tuple[str, str, object]]:
    return outputs(checkpoint("qwen3"), SETTINGS["overlap"])


def test_each_output_follows_the_grammar(expected: list[tuple[str, str, object]]) -> None:
    # Greedy, three choices, ignored ends, a least length, biases.
    for text, reason, _ in expected[:7]:
        assert reason in ("stop", "length")
        if reason == "stop":
            assert re.fullmatch(PATTERN, text), text
    assert expected[7][0] in ("yes, ", "no, ")
    assert expected[7][2] == "code"
    assert expected[8][1] == "length"
    assert "stop" in {reason for _, reason, _ in expected[:7]}


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "overlap"])
def test_schedules_change_nothing(
    checkpoint: Callable[[str], Path], expected: list[tuple[str, str, object]], name: str
) -> None:
    assert outputs(checkpoint("qwen3"), SETTINGS[name]) == expected


def test_jump_forward_follows_the_grammar_whatever_the_schedule(checkpoint: Callable[[str], Path]) -> None:
    # Its tokens are others than those sampled one by one, so its outputs are compared with each other.
    jumping = {"grammar_jump_forward": 2}
    found = outputs(checkpoint("qwen3"), jumping)
    for text, reason, _ in found[:7]:
        assert reason == "length" or re.fullmatch(PATTERN, text), text
    assert found[7][0] in ("yes, ", "no, ")
    assert found[9:] == outputs(checkpoint("qwen3"), {})[9:]
    assert outputs(checkpoint("qwen3"), {**jumping, **SETTINGS["small pool, no overlap"]}) == found
