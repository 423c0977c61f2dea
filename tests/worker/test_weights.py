"""Replacing weights in a running worker, and giving memory back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from hookline.errors import ModelError, RequestError
from hookline.worker.worker import LocalWorker
from tests.factories.checkpoints import make_checkpoint
from tests.factories.worker_driver import WorkerDriver
from tests.worker.conftest import MakeWorker
from tests.worker.test_worker import prompt


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture with other weights."""
    return make_checkpoint(tmp_path_factory.mktemp("weights") / "other", seed=1)


def generate(worker: LocalWorker) -> list[int]:
    driver = WorkerDriver(worker)
    request = driver.start("r", prompt(9))
    driver.generate([request], 8)
    return request.output


def test_updated_weights_are_those_of_a_fresh_load(make_worker: MakeWorker, other: Path) -> None:
    worker = make_worker()
    before = generate(worker)
    worker.update_weights(other)
    after = generate(worker)
    assert after != before
    assert after == generate(make_worker(other))


def _drop_tensor(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, path / "model.safetensors")


def _reshape_tensor(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1].clone()
    save_file(tensors, path / "model.safetensors")


def _truncate(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def _other_architecture(path: Path) -> None:
    config = path / "config.json"
    config.write_text(config.read_text().replace("Qwen3ForCausalLM", "LlamaForCausalLM"))


def _remove(path: Path) -> None:
    shutil.rmtree(path)


@pytest.mark.parametrize("spoil", [_drop_tensor, _reshape_tensor, _truncate, _other_architecture, _remove])
def test_a_failed_update_keeps_the_old_weights(
    make_worker: MakeWorker, other: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(other, broken)
    spoil(broken)
    worker = make_worker()
    before = generate(worker)
    with pytest.raises(ModelError):
        worker.update_weights(broken)
    assert generate(worker) == before


def test_released_memory_comes_back_with_the_same_weights(make_worker: MakeWorker, other: Path) -> None:
    worker = make_worker()
    for path in (None, other):
        if path is not None:
            worker.update_weights(path)
        before = generate(worker)
        parameters = worker._weights._model.parameters
        worker.release_memory(["kv", "weights"])
        assert all(parameter.data.untyped_storage().nbytes() == 0 for parameter in parameters.values())
        assert not worker._kv.is_allocated
        with pytest.raises(RuntimeError, match="resume it"):
            generate(worker)
        worker.resume_memory(["weights"])
        with pytest.raises(RuntimeError, match="resume it"):
            generate(worker)
        worker.resume_memory(["kv"])
        assert generate(worker) == before


def test_releasing_and_resuming_twice_is_harmless(make_worker: MakeWorker) -> None:
    worker = make_worker()
    before = generate(worker)
    for _ in range(2):
        worker.release_memory(["weights", "kv"])
    for _ in range(2):
        worker.resume_memory(["kv", "weights"])
    assert generate(worker) == before


def test_released_weights_cannot_be_updated(make_worker: MakeWorker, other: Path) -> None:
    worker = make_worker()
    worker.release_memory(["weights"])
    with pytest.raises(RequestError, match="resume them"):
        worker.update_weights(other)


def test_an_unknown_memory_tag_is_refused_before_anything_happens(make_worker: MakeWorker) -> None:
    worker = make_worker()
    with pytest.raises(RequestError, match=r"unknown memory tag 'graphs' \(known: kv, weights\)"):
        worker.release_memory(["kv", "graphs"])
    assert generate(worker)


def test_dummy_weights_need_no_checkpoint(make_worker: MakeWorker, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint / "config.json", tmp_path / "config.json")
    worker = make_worker(tmp_path, model={"load_format": "dummy"})
    before = generate(worker)
    worker.release_memory(["weights"])
    worker.resume_memory(["weights"])
    assert generate(worker) == before


def test_loading_reports_its_progress(checkpoint: Path) -> None:
    from hookline.worker.factory import build_worker
    from tests.factories.worker_plans import make_plan

    seen: list[tuple[str, int, int]] = []
    build_worker(make_plan(checkpoint), progress=lambda *report: seen.append(report)).close()
    assert seen[-1][0] == "weights"
    assert seen[-1][1] == seen[-1][2] == len(seen)
