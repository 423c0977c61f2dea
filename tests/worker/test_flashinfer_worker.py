"""The flashinfer backend in a worker, over a stand-in for its package: captured, padded and overlapped decodes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hookline.interfaces.attention import AttentionBackendSpec
from hookline.sampling_params import SamplingParams
from tests.factories.checkpoints import make_checkpoint
from tests.factories.worker_driver import WorkerDriver
from tests.factories.worker_platforms import GraphPlatform
from tests.worker.conftest import MakeWorker
from tests.worker.test_decode_graphs import prompts

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the GPU here")

OVER_FAKE = AttentionBackendSpec(
    name="over_fake", target="tests.attention.test_flashinfer:OverFake", features=frozenset({"graphs", "mixed"})
)
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With heads of a size that FlashInfer has."""
    return make_checkpoint(tmp_path_factory.mktemp("flashinfer") / "qwen3", head_dim=64)


@pytest.mark.parametrize("page_size", [1, 16])
def test_captured_decodes_are_those_of_eager_ones(checkpoint: Path, make_worker: MakeWorker, page_size: int) -> None:
    outputs = {}
    for graphs in (False, True):
        platform = GraphPlatform()
        worker = make_worker(
            checkpoint,
            platform=platform,
            attention=OVER_FAKE,
            execution={"disable_cuda_graph": not graphs},
            model={"dtype": "float16"},
            cache={"page_size": page_size},
            schedule={"max_running_requests": 4},
        )
        driver = WorkerDriver(worker)
        requests = [driver.start(f"r{i}", ids, GREEDY) for i, ids in enumerate(prompts(3, 40, 17, 9))]
        driver.generate(requests, 3)
        driver.free(requests[1])
        some = [requests[0], requests[2], requests[3]]
        # Launched before the first was read, as the overlap schedule does.
        steps = [driver.decode(some) for _ in range(2)]
        for step in steps:
            driver.read(step, some)
        late = driver.start("late", prompts(5)[0], GREEDY)
        driver.read(driver.extend([late], decodes=some), [late, *some])
        driver.read(driver.decode([*some, late]), [*some, late])
        outputs[platform.num_replayed] = [request.output for request in (*requests, late)]
    (eager, captured), replays = outputs.values(), list(outputs)
    assert captured == eager
    assert replays == [0, 5]
