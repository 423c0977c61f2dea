"""Two attention backends in one engine: each runs its passes, over one KV pool."""

from __future__ import annotations

import pytest
import transformers

from hookline.batch.forward_batch import AttentionGeometry
from hookline.interfaces.attention import AttentionBackend
from hookline_attention.torch_native import TorchNativeAttention
from hookline_attention.triton_attention.backend import TritonAttention
from tests.factories.worker_driver import WorkerDriver
from tests.factories.worker_platforms import GraphPlatform
from tests.worker.conftest import MakeWorker
from tests.worker.test_worker import greedy, prompt


def count(monkeypatch: pytest.MonkeyPatch, backend: type[AttentionBackend], seen: list[str]) -> None:
    """Note the mode of every pass that a backend plans."""
    plan = backend.plan

    def noting(self: AttentionBackend, geometry: AttentionGeometry) -> object:
        seen.append(f"{backend.__name__} {geometry.mode.value}")
        return plan(self, geometry)

    monkeypatch.setattr(backend, "plan", noting)


def test_the_first_prefills_and_the_second_decodes(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    count(monkeypatch, TorchNativeAttention, seen)
    count(monkeypatch, TritonAttention, seen)
    driver = WorkerDriver(make_worker(attention=("torch_native", "triton")))
    requests = [driver.start(f"r{n}", prompt(n)) for n in (1, 7, 20)]
    driver.generate(requests, 6)
    late = driver.start("late", prompt(11))
    driver.read(driver.extend([late], decodes=requests), [late, *requests])
    for request in requests:
        assert request.output == greedy(reference, request.prompt, 7)
    assert seen == ["TorchNativeAttention extend", *["TritonAttention decode"] * 5, "TorchNativeAttention mixed"]


def test_graphs_are_those_of_the_backend_that_decodes(make_worker: MakeWorker) -> None:
    platform = GraphPlatform()
    make_worker(platform=platform, attention=("torch_native", "triton"), schedule={"max_running_requests": 2})
    assert platform.num_captured == 2
    other = GraphPlatform()
    make_worker(platform=other, attention=("triton", "torch_native"))
    assert other.num_captured == 0
