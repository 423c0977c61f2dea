"""Teacher forcing: the raw logits of a worker along given tokens, prefilled and decoded.

Grammar masks that allow one token force it, and log-probabilities are asked for so that the worker shows the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hookline.batch.worker_batch import LogprobSpec
from hookline.sampling_params import SamplingParams
from hookline.worker.worker import LocalWorker
from tests.factories.worker_driver import DrivenRequest, WorkerDriver

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=1000)


@dataclass(frozen=True, slots=True)
class ForcedLogits:
    """Logits on the device, float32."""

    #: Of every prompt token but the last, one request after the other: [sum of (prompt - 1), V].
    prompts: torch.Tensor
    #: Of the last prompt token and of each decoded one: [steps, B, V].
    decoded: torch.Tensor


def forced_logits(
    worker: LocalWorker, rows: Sequence[Sequence[int]], prompt_lens: Sequence[int], num_steps: int
) -> ForcedLogits:
    """Prefill the beginnings of ``rows`` in one pass, then decode what follows, ``num_steps`` logits each in all."""
    runner: Any = worker._steps
    seen: list[torch.Tensor] = []
    plain = runner.log_softmax

    def spy(logits_NV: torch.Tensor) -> torch.Tensor:
        seen.append(logits_NV.float().clone())
        result: torch.Tensor = plain(logits_NV)
        return result

    runner.log_softmax = spy
    driver = WorkerDriver(worker)
    requests = []
    for index, (row, length) in enumerate(zip(rows, prompt_lens, strict=True)):
        wish = LogprobSpec(output=True, input_start=0, input_targets=tuple(row[1:length]))
        requests.append(driver.start(f"r{index}", row[:length], GREEDY, logprobs=wish))
    step = driver.extend(requests, constrained=requests)
    for number in range(num_steps):
        if number:
            step = driver.decode(requests, constrained=requests)
        step.sample(_masks(rows, requests, worker.info.vocab_size))
        driver.read(step, requests)
        for request in requests:
            request.logprobs = LogprobSpec(output=True)
    for request in requests:
        driver.free(request)
    runner.log_softmax = plain
    # Blocks of prompt tokens come first.
    outputs, prompts = seen[-num_steps:], seen[:-num_steps]
    return ForcedLogits(prompts=torch.cat(prompts), decoded=torch.stack(outputs))


def expected_logits(logits_BTV: torch.Tensor, prompt_lens: Sequence[int], num_steps: int) -> ForcedLogits:
    """The same from a model that has seen the rows whole."""
    prompts = [row[: length - 1] for row, length in zip(logits_BTV, prompt_lens, strict=True)]
    decoded = [row[length - 1 : length - 1 + num_steps] for row, length in zip(logits_BTV, prompt_lens, strict=True)]
    return ForcedLogits(prompts=torch.cat(prompts).float(), decoded=torch.stack(decoded, dim=1).float())


def rms_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the difference; infinite where a number is missing."""
    error = float((got - expected).square().mean(dtype=torch.float64).sqrt())
    return error if error == error else float("inf")


def _masks(rows: Sequence[Sequence[int]], requests: Sequence[DrivenRequest], vocab_size: int) -> npt.NDArray[np.int32]:
    """[B, W] that allow the token that comes next in each row."""
    words = np.zeros((len(requests), -(-vocab_size // 32)), dtype=np.uint32)
    for index, (row, request) in enumerate(zip(rows, requests, strict=True)):
        token = row[len(request.tokens)]
        words[index, token // 32] = 1 << (token % 32)
    return words.view(np.int32)
