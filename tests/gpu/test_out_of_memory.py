"""A device that runs out of memory while it serves: one request fails, the engine goes on."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from hookline import Engine, SamplingParams
from hookline.errors import MemoryBudgetError, RequestError

pytestmark = pytest.mark.gpu

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=8, ignore_eos=True)


def prompt(length: int) -> list[int]:
    rng = random.Random(length)
    return [rng.randrange(5, 4000) for _ in range(length)]


def test_a_pass_without_memory_fails_one_request() -> None:
    with Engine("demo", device="cuda", kv_cache_tokens=8192, max_running_requests=8) as engine:
        expected = engine.generate(input_ids=[prompt(20)], sampling_params=GREEDY)[0].output_ids
        torch.cuda.empty_cache()
        # Whatever is free beyond what the engine holds is taken away: a long prefill finds nothing.
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (1 << 20)) / total)
        try:
            with pytest.raises(RequestError, match="ran out of memory"):
                engine.generate(input_ids=[prompt(1500)], sampling_params=GREEDY)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert engine.generate(input_ids=[prompt(20)], sampling_params=GREEDY)[0].output_ids == expected
        assert len(engine.generate(input_ids=[prompt(1500)], sampling_params=GREEDY)[0].output_ids) == 8


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"kv_cache_gib": 100_000.0}, r"kv_cache_gib=100000 takes .* the largest that fits is kv_cache_tokens=\d+"),
    ({"memory_fraction": 1e-6}, "it takes memory_fraction="),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_a_cache_larger_than_the_device_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MemoryBudgetError, match=message):
        Engine("demo", device="cuda", **settings)


def test_the_ledger_counts_graphs_and_adds_up() -> None:
    with Engine("demo", device="cuda", kv_cache_tokens=8192) as engine:
        ledger = engine._core.control("server_state")["memory_ledger"]
    with Engine("demo", device="cuda", kv_cache_tokens=8192, disable_cuda_graph=True) as engine:
        plain = engine._core.control("server_state")["memory_ledger"]
    assert ledger["graphs"] > 0
    assert plain["graphs"] == 0
    assert ledger["rest"] > 0
    assert ledger["kv"] == plain["kv"]
