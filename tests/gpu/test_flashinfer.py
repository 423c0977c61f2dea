"""FlashInfer on a CUDA device: captured decodes give what eager ones give, as does Triton, over changing batches."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from hookline.interfaces.prebuild import PrebuildEnv
from hookline.platform import create_platform
from hookline.sampling_params import SamplingParams
from hookline.worker.factory import build_worker
from tests.factories.checkpoints import VOCAB_SIZE, make_checkpoint
from tests.factories.worker_driver import WorkerDriver
from tests.factories.worker_plans import make_plan

flashinfer = pytest.importorskip("flashinfer")
pytestmark = pytest.mark.gpu

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=64)
STEPS = 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("gpu") / "qwen3", head_dim=128)


def outputs(
    checkpoint: Path, attention: str | tuple[str, str], *, graphs: bool, page_size: int = 16
) -> list[list[int]]:
    """Greedy tokens of requests that come and go, so that batches are padded."""
    plan = make_plan(
        checkpoint,
        attention=attention,
        model={"dtype": "bfloat16"},
        execution={"device": "cuda", "disable_cuda_graph": not graphs},
        cache={"page_size": page_size},
        schedule={"max_running_requests": 8},
    )
    worker = build_worker(plan, platform=create_platform("cuda"))
    driver, rng = WorkerDriver(worker), random.Random(4)
    prompts = [[rng.randrange(5, VOCAB_SIZE) for _ in range(n)] for n in (3, 70, 200, 17, 1, 33)]
    requests = [driver.start(f"r{i}", prompt, GREEDY) for i, prompt in enumerate(prompts)]
    driver.generate(requests, STEPS)
    for request in requests[:3]:
        driver.free(request)
    for _ in range(STEPS):
        driver.read(driver.decode(requests[3:]), requests[3:])
    worker.close()
    return [request.output for request in requests]


def agreement(some: list[list[int]], others: list[list[int]]) -> float:
    """Share of requests with the same tokens; in bfloat16 a close call may go the other way."""
    return sum(a == b for a, b in zip(some, others, strict=True)) / len(some)


@pytest.mark.parametrize("page_size", [1, 16, 64])
def test_captured_decodes_are_those_of_eager_ones(checkpoint: Path, page_size: int) -> None:
    eager = outputs(checkpoint, "flashinfer", graphs=False, page_size=page_size)
    captured = outputs(checkpoint, "flashinfer", graphs=True, page_size=page_size)
    # Work is cut differently, so the last bits differ.
    assert agreement(eager, captured) >= 0.5
    assert [tokens[0] for tokens in eager] == [tokens[0] for tokens in captured]


def test_two_backends_agree(checkpoint: Path) -> None:
    triton = outputs(checkpoint, "triton", graphs=True)
    assert agreement(outputs(checkpoint, "flashinfer", graphs=True), triton) >= 0.5
    assert agreement(outputs(checkpoint, ("flashinfer", "triton"), graphs=True), triton) >= 0.5


def test_what_is_compiled_ahead_is_what_the_backend_uses(checkpoint: Path) -> None:
    from hookline.config.model_config import ModelConfig
    from hookline_attention.flashinfer_attention.modules import kernel_builds

    outputs(checkpoint, "flashinfer", graphs=True)
    env = PrebuildEnv(
        model=ModelConfig.load(checkpoint), device=torch.device("cuda"), dtype=torch.bfloat16, page_size=16
    )
    assert all(build.is_cached for build in kernel_builds(env))
