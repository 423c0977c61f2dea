"""A pass for which the device has no memory: its result says so, and the worker goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hookline.platform import is_out_of_memory
from hookline.sampling_params import SamplingParams
from tests.factories.worker_driver import WorkerDriver
from tests.factories.worker_platforms import LatePlatform, ThreadedPlatform
from tests.worker.conftest import MakeWorker
from tests.worker.test_worker import prompt

SAMPLED = SamplingParams(temperature=0.9, seed=5, frequency_penalty=0.3, max_new_tokens=32)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_missing_memory_are_known(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


class Starved:
    """Stands before a callable, which fails as often as it is told to."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.failures = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.call(*args, **kwargs)


@pytest.mark.parametrize("platform", [ThreadedPlatform, LatePlatform])
@pytest.mark.parametrize("stage", ["forward", "sampling", "masked sampling"])
def test_a_pass_without_memory_says_so_and_can_be_run_again(make_worker: MakeWorker, platform: Any, stage: str) -> None:
    def tokens(*, failures: int) -> list[int]:
        worker = make_worker(platform=platform())
        runner: Any = worker._steps
        if stage == "forward":
            broken = runner.model.forward = Starved(runner.model.forward)
        else:
            broken = runner.sampler.sample = Starved(runner.sampler.sample)
        driver = WorkerDriver(worker)
        masks = np.full((1, 12), -1, dtype=np.int32)
        output: list[int] = []
        for step in range(4):
            broken.failures = failures if step == 2 else 0
            attempts = 0
            while True:
                # As the scheduler does: whoever was in the pass starts again with what it has.
                request = driver.start("a", prompt(9), SAMPLED, output=output)
                constrained = [request] if stage == "masked sampling" else []
                launched = driver.extend([request], constrained=constrained)
                if constrained:
                    launched.sample(masks)
                result = launched.result()
                driver.free(request)
                attempts += 1
                if not result.out_of_memory:
                    break
                assert result.token_ids == [[]]
                assert "Tried to allocate" in result.out_of_memory
            assert attempts == 1 + (failures if step == 2 else 0)
            output = [*output, *result.token_ids[0]]
        return output

    assert tokens(failures=2) == tokens(failures=0)


@pytest.mark.parametrize("platform", [ThreadedPlatform, LatePlatform])
def test_passes_that_build_on_one_without_memory_are_not_run(make_worker: MakeWorker, platform: Any) -> None:
    """They would read tables that were never made, which on a GPU ends the process."""
    worker = make_worker(platform=platform())
    runner: Any = worker._steps
    driver = WorkerDriver(worker)
    first = driver.start("a", prompt(9), SAMPLED)
    driver.read(driver.extend([first]), [first])
    runner.model.forward = Starved(runner.model.forward)
    late = driver.start("b", prompt(6), SAMPLED)
    runner.model.forward.failures = 1
    failing = driver.extend([late], decodes=[first])
    behind = driver.decode([late, first])
    assert "Tried to allocate" in failing.result().out_of_memory
    fresh = driver.start("c", prompt(4), SAMPLED)
    sound = driver.extend([fresh])
    assert "a pass before this one" in behind.result().out_of_memory
    alone = WorkerDriver(make_worker())
    same = alone.start("c", prompt(4), SAMPLED)
    assert sound.result().token_ids == alone.extend([same]).result().token_ids


def test_other_errors_still_end_the_pass(make_worker: MakeWorker) -> None:
    worker = make_worker()
    runner: Any = worker._steps

    def broken(*args: Any) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    runner.model.forward = broken
    driver = WorkerDriver(worker)
    with pytest.raises(RuntimeError, match="illegal"):
        driver.extend([driver.start("a", prompt(3))]).result()


def test_an_engine_serves_on_after_a_pass_without_memory(checkpoint: Path) -> None:
    from hookline import Engine

    with Engine(checkpoint, max_running_requests=4, check_ledger=True) as engine:
        core: Any = engine._core
        runner: Any = core._worker._steps
        broken = runner.model.forward = Starved(runner.model.forward)
        params = SamplingParams(temperature=0.0, max_new_tokens=6, ignore_eos=True)
        expected = engine.generate(input_ids=[prompt(5)], sampling_params=params)[0].output_ids
        broken.failures = 1
        with pytest.raises(ValueError, match="ran out of memory"):
            engine.generate(input_ids=[prompt(5), prompt(30)], sampling_params=params)
        assert engine.generate(input_ids=[prompt(5)], sampling_params=params)[0].output_ids == expected
