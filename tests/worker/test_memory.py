"""The memory ledger: its formula, its limits, and what it says when something does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hookline.config.model_config import ModelConfig
from hookline.config.schema import CacheConfig
from hookline.errors import MemoryBudgetError
from hookline.observability.timeline import Timeline
from hookline.platform import CpuPlatform, DeviceMemory
from hookline.worker.factory import build_worker
from hookline.worker.memory import GIB, MemoryDemand, check_weights, estimate_activations, plan_memory
from hookline.worker.weights import Weights
from tests.factories.checkpoints import make_checkpoint
from tests.factories.worker_driver import WorkerDriver
from tests.factories.worker_plans import make_plan
from tests.factories.worker_platforms import CountingPlatform, LatePlatform


def demand(**changes: Any) -> MemoryDemand:
    values: dict[str, Any] = {
        "free": 10_000_000,
        "weights": 2_000_000,
        "activations": 1_000_000,
        "pass_tokens": 1000,
        "bytes_per_token": 1000,
        "page_size": 16,
        "max_running_requests": 100,
        "max_context_len": 1000,
    }
    return MemoryDemand(**{**values, **changes})


def test_the_cache_gets_what_the_fraction_leaves_in_whole_pages_less_the_sink() -> None:
    ledger = plan_memory(CacheConfig(memory_fraction=0.85), demand())
    # 8.5 MB - 2 MB - 1 MB = 5.5 MB are 343 pages of 16 KB; one is the sink.
    assert ledger.num_tokens == 342 * 16
    assert ledger.kv == 343 * 16 * 1000
    assert ledger.terms() == {
        "weights": 2_000_000,
        "kv": 5_488_000,
        "activations": 1_000_000,
        "graphs": 0,
        "tables": 0,
        "embeddings": 0,
        "rest": 10_000_000 - 2_000_000 - 1_000_000 - 5_488_000,
    }


def test_embedding_rows_take_their_share() -> None:
    without = plan_memory(CacheConfig(kv_cache_tokens=1600), demand())
    ledger = plan_memory(CacheConfig(kv_cache_tokens=1600), demand(embeddings=400_000))
    assert ledger.terms()["embeddings"] == without.rest - ledger.rest == 400_000


def test_captured_passes_take_their_share() -> None:
    without = plan_memory(CacheConfig(kv_cache_tokens=1600), demand())
    ledger = plan_memory(CacheConfig(kv_cache_tokens=1600), demand(graphs=500_000))
    assert ledger.terms()["graphs"] == 500_000
    assert without.rest - ledger.rest == 500_000
    assert sum(ledger.terms().values()) == ledger.free
    with pytest.raises(MemoryBudgetError, match=r"graphs 0\.00"):
        plan_memory(CacheConfig(kv_cache_tokens=7_000), demand(graphs=500_000))


def test_the_cache_is_no_larger_than_all_requests_could_fill() -> None:
    ledger = plan_memory(CacheConfig(), demand(max_running_requests=2, max_context_len=100))
    assert ledger.num_tokens == 2 * 112


def test_the_cache_keeps_to_the_limit_of_the_device_unless_asked_for_more() -> None:
    assert plan_memory(CacheConfig(), demand(kv_limit=800_000)).num_tokens == 49 * 16
    assert plan_memory(CacheConfig(kv_cache_tokens=1600), demand(kv_limit=800_000)).num_tokens == 1600


def test_explicit_sizes_decide_and_are_cut_to_pages() -> None:
    assert plan_memory(CacheConfig(kv_cache_tokens=1000), demand()).num_tokens == 992
    small = demand(free=10 * GIB, weights=0, activations=0)
    assert plan_memory(CacheConfig(kv_cache_gib=1.0), small).num_tokens == (GIB // 16_000 - 1) * 16


@given(
    free=st.integers(1_000_000, 10**9),
    fraction=st.floats(0.05, 1.0),
    page_size=st.sampled_from([1, 16, 64]),
    bytes_per_token=st.integers(1, 5000),
)
def test_a_ledger_always_adds_up(free: int, fraction: float, page_size: int, bytes_per_token: int) -> None:
    wish = demand(
        free=free, page_size=page_size, bytes_per_token=bytes_per_token, weights=free // 5, activations=free // 10
    )
    try:
        ledger = plan_memory(CacheConfig(memory_fraction=fraction), wish)
    except MemoryBudgetError:
        return
    assert sum(ledger.terms().values()) == free
    assert ledger.num_tokens % page_size == 0
    assert ledger.num_tokens >= page_size
    assert ledger.weights + ledger.activations + ledger.kv <= free * fraction
    assert ledger.rest >= 0


# --- what does not fit ---


def largest_named(message: str) -> int:
    return int(message.split("the largest that fits is kv_cache_tokens=")[1].split()[0])


@pytest.mark.parametrize(
    "cache", [CacheConfig(kv_cache_tokens=10_000_000), CacheConfig(kv_cache_gib=1.0), CacheConfig(kv_cache_tokens=5)]
)
def test_a_cache_that_does_not_fit_names_the_largest_that_does(cache: CacheConfig) -> None:
    with pytest.raises(MemoryBudgetError, match="kv_cache") as error:
        plan_memory(cache, demand())
    largest = largest_named(str(error.value))
    assert plan_memory(CacheConfig(kv_cache_tokens=largest), demand()).num_tokens == largest
    with pytest.raises(MemoryBudgetError):
        plan_memory(CacheConfig(kv_cache_tokens=largest + 16), demand())


def test_a_fraction_that_leaves_nothing_names_the_least_that_works() -> None:
    with pytest.raises(MemoryBudgetError, match=r"memory_fraction=0\.2 of") as error:
        plan_memory(CacheConfig(memory_fraction=0.2), demand())
    least = float(str(error.value).split("it takes memory_fraction=")[1].split()[0])
    assert plan_memory(CacheConfig(memory_fraction=least + 0.001), demand()).num_tokens >= 16
    with pytest.raises(MemoryBudgetError):
        plan_memory(CacheConfig(memory_fraction=least - 0.001), demand())


def test_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(MemoryBudgetError, match=r"the weights take 20.00 GiB, but only 8.00 GiB"):
        plan_memory(CacheConfig(), demand(weights=20 * GIB, free=8 * GIB))
    check_weights(8 * GIB, 8 * GIB)


def test_activations_that_do_not_fit_name_a_pass_that_would() -> None:
    wish = demand(activations=9_000_000, pass_tokens=1000)
    with pytest.raises(MemoryBudgetError, match="activations do not fit") as error:
        plan_memory(CacheConfig(), wish)
    tokens = int(str(error.value).rsplit(" ", 1)[1])
    fitting = demand(activations=9_000 * tokens, pass_tokens=tokens)
    assert plan_memory(CacheConfig(kv_cache_tokens=16), fitting).num_tokens == 16


# --- the whole worker ---


class SmallPlatform(CpuPlatform):
    """A CPU that says how much memory it has."""

    def __init__(self, free: int) -> None:
        super().__init__(threads=1)
        self._free = free

    def memory(self) -> DeviceMemory:
        return DeviceMemory(free=self._free, total=self._free)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("memory"))


def test_a_worker_sizes_its_cache_from_what_is_free(checkpoint: Path) -> None:
    free = 64 << 20
    plan = make_plan(checkpoint, cache={"page_size": 16}, schedule={"max_prefill_tokens": 512})
    worker = build_worker(plan, platform=SmallPlatform(free))
    model = ModelConfig.load(checkpoint)
    weights = worker.info.memory_ledger["weights"]
    activations = estimate_activations(model, num_tokens=512, num_rows=64, itemsize=4)
    per_token = 3 * 2 * (16 + 16) * 4
    pages = (int(free * 0.85) - weights - activations) // (16 * per_token) - 1
    assert worker.info.max_total_tokens == min(pages * 16, 64 * 512)
    assert sum(worker.info.memory_ledger.values()) == free
    worker.close()


def test_activations_are_measured_where_the_device_counts_them(checkpoint: Path) -> None:
    platform = LatePlatform(peak=7 << 20)
    worker = build_worker(make_plan(checkpoint, schedule={"max_prefill_tokens": 700}), platform=platform)
    # One prefill as large as may come, one decode of all requests.
    assert platform.num_measured == 2
    assert worker.info.memory_ledger["activations"] == 7 << 20
    driver = WorkerDriver(worker)
    request = driver.start("r", [5, 6, 7])
    driver.generate([request], 3)
    worker.close()


def test_graphs_are_measured_before_the_cache_is_sized_and_counted_when_all_are_there(checkpoint: Path) -> None:
    platform = CountingPlatform()
    plan = make_plan(checkpoint, attention="triton", schedule={"max_running_requests": 8, "max_prefill_tokens": 64})
    worker = build_worker(plan, platform=platform)
    # The largest, two more, and then all of 1, 2, 4, 8.
    assert platform.num_captured == 3 + 4
    assert worker.info.memory_ledger["graphs"] == (5 << 20) + 3 * (1 << 20)
    assert sum(worker.info.memory_ledger.values()) == platform.free
    worker.close()


STARTS: dict[str, tuple[dict[str, Any], str]] = {
    "passes": ({}, r"a pass of 64 tokens beside the weights did not fit.*schedule.max_prefill_tokens"),
    "first capture": ({"fails_at": 0}, r"captured decodes beside the weights did not fit.*cuda_graph_max_bs"),
    "captures": ({"fails_at": 2}, r"captured decodes did not fit.*1\.00 of 1\.00 GiB free.*disable_cuda_graph"),
    "weights": ({}, r"the weights did not fit.*model\.dtype.*Tried to allocate"),
}


@pytest.mark.parametrize("when", STARTS)
def test_memory_that_runs_out_at_start_names_the_term_and_what_to_do(
    when: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    changes, message = STARTS[when]
    platform = CountingPlatform()
    for name, value in changes.items():
        setattr(platform, name, value)
    if when == "passes":
        monkeypatch.setattr(platform, "measure_peak", no_memory)
    if when == "weights":
        monkeypatch.setattr(Weights, "load", no_memory)
    plan = make_plan(checkpoint, attention="triton", schedule={"max_running_requests": 2, "max_prefill_tokens": 64})
    with pytest.raises(MemoryBudgetError, match=message):
        build_worker(plan, platform=platform)


def test_rounding_is_kept_free_so_that_the_largest_cache_named_fits() -> None:
    with pytest.raises(MemoryBudgetError) as error:
        plan_memory(CacheConfig(kv_cache_tokens=10_000_000), demand(rounding=70_000))
    largest = largest_named(str(error.value))
    ledger = plan_memory(CacheConfig(kv_cache_tokens=largest), demand(rounding=70_000))
    assert ledger.rest >= 70_000
    assert sum(ledger.terms().values()) == ledger.free


def test_no_more_requests_run_than_the_cache_has_pages(checkpoint: Path) -> None:
    plan = make_plan(checkpoint, cache={"page_size": 16, "kv_cache_tokens": 80})
    worker = build_worker(plan)
    assert (worker.info.max_total_tokens, worker.info.max_running_requests) == (80, 5)
    worker.close()


def test_the_timeline_learns_what_the_worker_took(checkpoint: Path) -> None:
    timeline = Timeline()
    build_worker(make_plan(checkpoint), timeline=timeline).close()
    assert list(timeline.seconds) == ["weights", "kernels", "graphs"]
    assert timeline.seconds["weights"] > 0


def test_a_model_too_large_is_refused_before_it_is_read(checkpoint: Path) -> None:
    with pytest.raises(MemoryBudgetError, match="the weights take"):
        build_worker(make_plan(checkpoint), platform=SmallPlatform(1000))
