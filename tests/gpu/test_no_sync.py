"""A decode never waits for the device before its result is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hookline.platform import create_platform
from hookline.sampling_params import SamplingParams
from hookline.worker.factory import build_worker
from tests.factories.checkpoints import make_checkpoint
from tests.factories.worker_driver import WorkerDriver
from tests.factories.worker_plans import make_plan

pytestmark = pytest.mark.gpu

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=64)
RANDOM = SamplingParams(temperature=0.8, top_k=20, min_p=0.05, frequency_penalty=0.2, seed=1, max_new_tokens=64)
NUCLEUS = SamplingParams(temperature=0.8, top_p=0.9, logit_bias={7: 1.5}, seed=2, max_new_tokens=64)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("gpu") / "qwen3")


@pytest.fixture
def strict() -> Iterator[None]:
    """What waits for the device raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "eager"])
def test_decode_does_not_wait(checkpoint: Path, graphs: bool, request: pytest.FixtureRequest) -> None:
    plan = make_plan(
        checkpoint,
        attention="triton",
        model={"dtype": "bfloat16"},
        execution={"device": "cuda", "disable_cuda_graph": not graphs},
        schedule={"max_running_requests": 4},
    )
    worker = build_worker(plan, platform=create_platform("cuda"))
    driver = WorkerDriver(worker)
    requests = [
        driver.start(f"r{i}", list(range(5, 5 + n)), params)
        for i, (n, params) in enumerate(((9, GREEDY), (30, RANDOM), (3, NUCLEUS)))
    ]
    # Kernels are compiled by the first passes.
    driver.generate(requests, 4)
    request.getfixturevalue("strict")
    steps = [driver.decode(requests) for _ in range(8)]
    torch.cuda.set_sync_debug_mode("default")
    for step in steps:
        driver.read(step, requests)
    assert [len(sequence.output) for sequence in requests] == [12, 12, 12]
    worker.close()
