"""A decode never waits for the device before its result is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hookline.batch.worker_batch import LogprobSpec
from hookline.interfaces.worker import Step
from hookline.platform import create_platform
from hookline.sampling_params import SamplingParams
from hookline.worker.factory import build_worker
from hookline.worker.worker import LocalWorker
from hookline_kernels.plugin import hookline_ops
from hookline_lora.plugin import hookline_lora_backends
from tests.factories.adapters import make_adapter
from tests.factories.checkpoints import VOCAB_SIZE, make_checkpoint
from tests.factories.worker_driver import DrivenRequest, WorkerDriver
from tests.factories.worker_plans import chosen, make_plan

pytestmark = pytest.mark.gpu

OP_SETS = {spec.name: spec for spec in hookline_ops()}

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=64)
RANDOM = SamplingParams(temperature=0.8, top_k=20, min_p=0.05, frequency_penalty=0.2, seed=1, max_new_tokens=64)
NUCLEUS = SamplingParams(temperature=0.8, top_p=0.9, logit_bias={7: 1.5}, seed=2, max_new_tokens=64)


#: FlashInfer's kernels need heads of 64, 128 or 256.
BACKENDS = [
    "triton",
    pytest.param(
        "flashinfer",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("flashinfer") is None, reason="needs the package flashinfer-python"
        ),
    ),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("gpu") / "qwen3", head_dim=128)


@pytest.fixture
def strict() -> Iterator[None]:
    """What waits for the device raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def settings_of(graphs: bool, **more: Any) -> dict[str, Any]:
    return {
        "attention": "triton",
        "model": {"dtype": "bfloat16"},
        "execution": {"device": "cuda", "disable_cuda_graph": not graphs},
        "schedule": {"max_running_requests": 4},
        **more,
    }


def decode_strictly(
    worker: LocalWorker,
    requests: list[DrivenRequest],
    driver: WorkerDriver,
    constrained: list[DrivenRequest],
    request: pytest.FixtureRequest,
) -> None:
    """Eight decodes in a row that must not wait, after as many in which kernels are compiled."""
    masks = np.full((len(constrained), -(-VOCAB_SIZE // 32)), 0x55555555, dtype=np.int32)

    def decode() -> Step:
        step = driver.decode(requests, constrained=constrained)
        if constrained:
            step.sample(masks)
        return step

    first = driver.extend(requests, constrained=constrained)
    if constrained:
        first.sample(masks)
    driver.read(first, requests)
    for _ in range(8):
        driver.read(decode(), requests)
    request.getfixturevalue("strict")
    steps = [decode() for _ in range(8)]
    torch.cuda.set_sync_debug_mode("default")
    for step in steps:
        driver.read(step, requests)
    assert [len(sequence.output) for sequence in requests] == [17] * len(requests)
    # Words of 0x55555555 allow the even tokens.
    assert all(token % 2 == 0 for sequence in constrained for token in sequence.output)


@pytest.mark.parametrize("ops", ["triton", "torch"])
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "eager"])
def test_masks_penalties_filters_and_logprobs_do_not_wait(
    checkpoint: Path, graphs: bool, ops: str, request: pytest.FixtureRequest
) -> None:
    plan = make_plan(checkpoint, extra=(chosen(OP_SETS[ops]),), **settings_of(graphs))
    worker = build_worker(plan, platform=create_platform("cuda"))
    driver = WorkerDriver(worker)
    requests = [
        driver.start(f"r{i}", list(range(5, 5 + n)), params, logprobs=LogprobSpec(output=True, top=3))
        for i, (n, params) in enumerate(((9, GREEDY), (30, RANDOM), (3, NUCLEUS), (12, NUCLEUS.replace(min_p=0.1))))
    ]
    decode_strictly(worker, requests, driver, [requests[0], requests[2]], request)
    worker.close()


def test_adapters_do_not_wait(checkpoint: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (lora,) = hookline_lora_backends()
    plan = make_plan(checkpoint, extra=(chosen(OP_SETS["triton"]), chosen(lora)), **settings_of(True))
    worker = build_worker(plan, platform=create_platform("cuda"))
    worker.load_adapter(1, "one", make_adapter(checkpoint, tmp_path / "one"))
    driver = WorkerDriver(worker)
    requests = [
        driver.start(f"r{i}", list(range(5, 5 + n)), params, adapter=adapter)
        for i, (n, params, adapter) in enumerate(((9, GREEDY, 1), (30, RANDOM, 0), (3, NUCLEUS, 1)))
    ]
    decode_strictly(worker, requests, driver, [requests[1]], request)
    worker.close()


@pytest.mark.parametrize("attention", BACKENDS)
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "eager"])
def test_decode_does_not_wait(checkpoint: Path, graphs: bool, attention: str, request: pytest.FixtureRequest) -> None:
    plan = make_plan(
        checkpoint,
        attention=attention,
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
