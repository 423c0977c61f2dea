"""Pooling over chunks, against hidden states of transformers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers

from hookline.batch.worker_batch import PoolingSpec
from hookline.interfaces.pooling import Pooler
from hookline.worker.pooling import RowPoolers
from tests.factories.worker_driver import DrivenRequest, WorkerDriver
from tests.worker.conftest import MakeWorker
from tests.worker.test_worker import greedy, prompt

REDUCE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "last": lambda hidden: hidden[-1],
    "cls": lambda hidden: hidden[0],
    "mean": lambda hidden: hidden.mean(0),
}


def wish(pooling: str, *, is_last: bool, normalize: bool = True, dimensions: int | None = None) -> PoolingSpec:
    return PoolingSpec(pooling=pooling, normalize=normalize, dimensions=dimensions, is_last=is_last)


def expected(reference: transformers.PreTrainedModel, ids: list[int], pooling: str) -> torch.Tensor:
    with torch.inference_mode():
        hidden = reference.model(torch.tensor([ids])).last_hidden_state[0].float()
    return REDUCE[pooling](hidden)


def embed(driver: WorkerDriver, request: DrivenRequest, chunk: int, spec: PoolingSpec) -> list[float]:
    total = len(request.prompt)
    while True:
        count = min(chunk, total - request.computed)
        is_last = request.computed + count == total
        request.pooling = wish(spec.pooling, is_last=is_last, normalize=spec.normalize, dimensions=spec.dimensions)
        result = driver.read(driver.extend([request], [count]), [request])
        assert result.embeddings is not None
        if is_last:
            assert result.embeddings[0] is not None
            return result.embeddings[0]
        assert result.embeddings == [None]


@pytest.mark.parametrize("chunk", [1, 5, 100])
@pytest.mark.parametrize("pooling", ["last", "cls", "mean"])
def test_vectors_do_not_depend_on_chunks(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel, pooling: str, chunk: int
) -> None:
    driver = WorkerDriver(make_worker())
    request = driver.start("a", prompt(14), pooling=wish(pooling, is_last=True))
    found = torch.tensor(embed(driver, request, chunk, wish(pooling, is_last=True)))
    vector = expected(reference, request.prompt, pooling)
    torch.testing.assert_close(found, vector / vector.norm(), atol=1e-5, rtol=1e-4)


def test_vectors_are_cut_before_they_are_normalised(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel
) -> None:
    driver = WorkerDriver(make_worker())
    vector = expected(reference, prompt(9), "mean")
    for spec in (
        wish("mean", is_last=True, dimensions=8),
        wish("mean", is_last=True, dimensions=8, normalize=False),
        wish("mean", is_last=True, normalize=False),
    ):
        request = driver.start(f"{spec}", prompt(9), pooling=spec)
        found = torch.tensor(embed(driver, request, 100, spec))
        cut = vector[: spec.dimensions]
        torch.testing.assert_close(found, cut / cut.norm() if spec.normalize else cut, atol=1e-5, rtol=1e-4)


def test_one_pass_holds_several_wishes_and_requests_that_generate(
    make_worker: MakeWorker, reference: transformers.PreTrainedModel
) -> None:
    driver = WorkerDriver(make_worker())
    requests = [
        driver.start("a", prompt(6), pooling=wish("mean", is_last=True, normalize=False)),
        driver.start("b", prompt(11)),
        driver.start("c", prompt(3), pooling=wish("last", is_last=True, normalize=False, dimensions=5)),
    ]
    result = driver.read(driver.extend(requests), requests)
    assert result.embeddings is not None
    assert result.embeddings[1] is None
    for i, pooling, size in ((0, "mean", 64), (2, "last", 5)):
        vector = expected(reference, requests[i].prompt, pooling)[:size]
        torch.testing.assert_close(torch.tensor(result.embeddings[i]), vector, atol=1e-4, rtol=1e-4)
    assert requests[1].output == greedy(reference, requests[1].prompt, 1)


# --- state by row ---


class Recorder(Pooler):
    """Notes what it was fed."""

    def __init__(self) -> None:
        self.fed: list[tuple[int, bool, bool]] = []

    def update(self, hidden_TH: torch.Tensor, is_first: bool, is_last: bool) -> None:
        self.fed.append((hidden_TH.shape[0], is_first, is_last))

    def result(self) -> torch.Tensor:
        return torch.tensor([float(count) for count, _, _ in self.fed])


class Broken(Recorder):
    def result(self) -> torch.Tensor:
        raise ArithmeticError("no vector")


def feed(
    poolers: RowPoolers, rid: str, prefix: int, count: int, *, is_last: bool, pooling: str = "recorder"
) -> list[float] | None:
    spec = wish(pooling, is_last=is_last, normalize=False)
    pooled = poolers.update(torch.zeros(count, 4), [spec], [rid], [3], [prefix], [count])
    if pooled.errors:
        raise AssertionError(pooled.errors[0])
    return pooled.vectors[0].tolist() if pooled.vectors else None


def test_a_request_that_starts_again_begins_with_a_fresh_pooler() -> None:
    poolers = RowPoolers({"recorder": Recorder})
    assert feed(poolers, "a", 0, 2, is_last=False) is None
    assert feed(poolers, "a", 2, 3, is_last=False) is None
    # Retracted: the same row, the same request, from the beginning.
    assert feed(poolers, "a", 0, 4, is_last=False) is None
    assert feed(poolers, "a", 4, 1, is_last=True) == [4.0, 1.0]


def test_a_row_with_a_new_owner_begins_with_a_fresh_pooler() -> None:
    poolers = RowPoolers({"recorder": Recorder})
    feed(poolers, "a", 0, 2, is_last=False)
    assert feed(poolers, "b", 2, 5, is_last=True) == [5.0]
    feed(poolers, "c", 0, 2, is_last=False)
    poolers.release(3)
    assert feed(poolers, "c", 2, 6, is_last=True) == [6.0]


def test_a_pooler_that_fails_fails_its_request_alone() -> None:
    poolers = RowPoolers({"recorder": Recorder, "broken": Broken})
    specs = [
        wish("broken", is_last=True),
        wish("recorder", is_last=True),
        wish("missing", is_last=True),
    ]
    pooled = poolers.update(torch.zeros(6, 4), specs, ["a", "b", "c"], [0, 1, 2], [0, 0, 0], [2, 3, 1])
    assert list(pooled.vectors) == [1]
    assert "ArithmeticError: no vector" in pooled.errors[0]
    assert "unknown pooler 'missing' (known: broken, recorder)" in pooled.errors[2]
