"""One small checkpoint and its transformers model for all tests of the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hookline.interfaces.attention import AttentionBackendSpec
from hookline.platform import CpuPlatform
from hookline.worker.factory import build_worker
from hookline.worker.worker import LocalWorker
from tests.factories.checkpoints import make_checkpoint
from tests.factories.worker_plans import make_plan

MakeWorker = Callable[..., LocalWorker]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("worker") / "qwen3")


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> transformers.PreTrainedModel:
    """The same model in transformers."""
    model: transformers.PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32
    )
    model.eval()
    return model


@pytest.fixture
def make_worker(checkpoint: Path) -> Iterator[MakeWorker]:
    """Builds workers and closes them."""
    made: list[LocalWorker] = []

    def make(
        path: Path = checkpoint,
        *,
        platform: CpuPlatform | None = None,
        attention: str | AttentionBackendSpec | tuple[str | AttentionBackendSpec, ...] = "torch_native",
        **sections: Any,
    ) -> LocalWorker:
        made.append(build_worker(make_plan(path, attention=attention, **sections), platform=platform))
        return made[-1]

    yield make
    for worker in made:
        worker.close()
