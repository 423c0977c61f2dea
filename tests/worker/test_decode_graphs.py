"""Captured decodes give what passes give that are run one call at a time."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
import transformers

from hookline.interfaces.attention import AttentionBackendSpec
from hookline.sampling_params import SamplingParams
from hookline.worker.decode_graphs import ladder
from tests.factories.checkpoints import VOCAB_SIZE
from tests.factories.worker_driver import DrivenRequest, WorkerDriver
from tests.factories.worker_platforms import GraphPlatform
from tests.worker.conftest import MakeWorker

#: The backend whose plans may be captured; runs in Triton's interpreter here.
CAPTURED = "triton"
#: One whose plans hold for the lengths that they were made for alone.
REPLANNED = AttentionBackendSpec(
    name="replanned", target="tests.factories.replanned_attention:ReplannedAttention", features=frozenset({"graphs"})
)
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=32)


def prompts(*lengths: int) -> list[list[int]]:
    rng = random.Random(3)
    return [[rng.randrange(5, VOCAB_SIZE) for _ in range(length)] for length in lengths]


@pytest.mark.parametrize("largest", [1, 2, 3, 16, 100, 256, 257, 400, 512])
def test_the_ladder_ends_at_the_largest_batch(largest: int) -> None:
    rungs = ladder(largest)
    assert rungs == sorted(set(rungs))
    assert rungs[-1] == largest
    # No pass is padded to more than twice its size.
    assert all(after <= 2 * before for before, after in itertools.pairwise(rungs))


def run(
    make_worker: MakeWorker,
    platform: GraphPlatform,
    attention: str | AttentionBackendSpec | tuple[str | AttentionBackendSpec, ...] = CAPTURED,
    **execution: bool | int,
) -> list[list[int]]:
    """Requests that come, go and are padded: 4, then 3, then 1, then 5 at a time."""
    worker = make_worker(
        platform=platform, attention=attention, execution=execution, schedule={"max_running_requests": 6}
    )
    driver = WorkerDriver(worker)
    first = [driver.start(f"a{i}", ids, GREEDY) for i, ids in enumerate(prompts(3, 20, 9, 1))]
    driver.generate(first, 3)
    driver.free(first[1])
    for _ in range(2):
        some = [first[0], first[2], first[3]]
        driver.read(driver.decode(some), some)
    driver.read(driver.decode([first[3]]), [first[3]])
    late = [driver.start(f"b{i}", ids, GREEDY) for i, ids in enumerate(prompts(12, 2))]
    driver.read(driver.extend(late), late)
    everybody: list[DrivenRequest] = [first[0], first[2], first[3], *late]
    for _ in range(3):
        driver.read(driver.decode(everybody), everybody)
    return [request.output for request in (*first, *late)]


def test_tokens_are_those_of_passes_without_graphs(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel
) -> None:
    plain, captured = GraphPlatform(), GraphPlatform()
    expected = run(make_worker, plain, disable_cuda_graph=True)
    assert run(make_worker, captured) == expected
    assert (plain.num_captured, plain.num_replayed) == (0, 0)
    assert captured.num_captured == len(ladder(6))
    assert captured.num_replayed == 8
    with torch.inference_mode():
        best = reference(torch.tensor([prompts(3, 20, 9, 1)[1]])).logits[0, -1].argmax()
    assert expected[1][0] == int(best)


@pytest.mark.parametrize("attention", [REPLANNED, ("torch_native", REPLANNED)], ids=["alone", "hybrid"])
def test_replays_are_planned_for_their_lengths(
    make_worker: MakeWorker, attention: AttentionBackendSpec | tuple[str | AttentionBackendSpec, ...]
) -> None:
    """The backend gives NaN, which is a fault of the request, for other lengths than it was told."""
    platform = GraphPlatform()
    assert run(make_worker, platform, attention) == run(make_worker, GraphPlatform(), disable_cuda_graph=True)
    assert platform.num_replayed == 8


def test_larger_batches_run_without_graphs(make_worker: MakeWorker) -> None:
    platform = GraphPlatform()
    small = run(make_worker, platform, cuda_graph_max_bs=2)
    assert platform.num_captured == 2
    # Only the pass of one request fits.
    assert platform.num_replayed == 1
    assert small == run(make_worker, GraphPlatform(), disable_cuda_graph=True)


def test_padding_writes_into_the_sink_alone(make_worker: MakeWorker) -> None:
    """A request that left its place to padding keeps its KV: it goes on later as if nothing had happened."""
    worker = make_worker(platform=GraphPlatform(), attention=CAPTURED, schedule={"max_running_requests": 4})
    driver = WorkerDriver(worker)
    requests = [driver.start(f"r{i}", ids, GREEDY) for i, ids in enumerate(prompts(8, 8, 8, 8))]
    driver.generate(requests, 2)
    for _ in range(3):
        driver.read(driver.decode(requests[:3]), requests[:3])
    for _ in range(3):
        driver.read(driver.decode(requests[3:]), requests[3:])
    alone = WorkerDriver(make_worker(platform=GraphPlatform(), attention=CAPTURED))
    last = alone.start("r", requests[3].prompt, GREEDY)
    alone.generate([last], 5)
    assert requests[3].output == last.output


def test_memory_that_was_taken_again_is_captured_again(make_worker: MakeWorker) -> None:
    platform = GraphPlatform()
    worker = make_worker(platform=platform, attention=CAPTURED, schedule={"max_running_requests": 2})
    driver = WorkerDriver(worker)
    before = driver.start("a", prompts(9)[0], GREEDY)
    driver.generate([before], 4)
    worker.release_memory(["kv", "weights"])
    worker.resume_memory(["kv"])
    assert platform.num_captured == 2
    worker.resume_memory(["weights"])
    assert platform.num_captured == 4
    driver = WorkerDriver(worker, seed=1)
    after = driver.start("b", prompts(9)[0], GREEDY)
    driver.generate([after], 4)
    assert after.output == before.output


def test_a_backend_without_graphs_is_named(make_worker: MakeWorker, caplog: pytest.LogCaptureFixture) -> None:
    platform = GraphPlatform()
    make_worker(platform=platform)
    assert platform.num_captured == 0
    assert "decode runs without graphs: attention backend 'torch_native' does not support them" in caplog.text
