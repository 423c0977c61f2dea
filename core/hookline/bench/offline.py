"""Offline throughput: one workload through the Engine and, in the same run, through transformers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookline.bench.workloads import Workload
from hookline.errors import ConfigError

if TYPE_CHECKING:
    from hookline.engine import Engine

#: Prepares a workload; what it gives runs the workload once and returns the number of useful output tokens.
#: Only the run is timed.
Runner = Callable[[Workload], AbstractContextManager[Callable[[], int]]]

#: Pages beyond what a workload needs, for transformers' scheduler.
_SPARE_BLOCKS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The best of several repetitions."""

    name: str
    #: Seconds of every repetition, the warm-up first.
    runs: list[float]
    input_tokens: int
    output_tokens: int

    @property
    def seconds(self) -> float:
        """The best repetition's, the warm-up apart."""
        return min(self.runs[1:])

    @property
    def first_seconds(self) -> float:
        """The warm-up's."""
        return self.runs[0]

    @property
    def output_rate(self) -> float:
        """Output tokens per second."""
        return self.output_tokens / self.seconds

    @property
    def input_rate(self) -> float:
        """Input tokens per second."""
        return self.input_tokens / self.seconds


def measure_in_turns(
    runners: dict[str, Runner],
    workload: Workload,
    *,
    repetitions: int,
    first_token: Callable[[int], int] = lambda number: number + 1,
) -> list[Measurement]:
    """Measure several runners turn by turn, so that a slow minute of the machine hits all of them.

    There is one warm-up and then ``repetitions``; number n's prompts begin with ``first_token(n)``.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(repetitions + 1):
        variant = workload.variant(first_token(number))
        for name, prepare in runners.items():
            with prepare(variant) as run:
                start = time.perf_counter()
                produced = run()
                seconds[name].append(time.perf_counter() - start)
            if produced != workload.num_output_tokens:
                raise RuntimeError(f"{name} made {produced} output tokens instead of {workload.num_output_tokens}")
    return [
        Measurement(
            name=name,
            runs=times,
            input_tokens=workload.num_input_tokens,
            output_tokens=workload.num_output_tokens,
        )
        for name, times in seconds.items()
    ]


def check_fits(workload: Workload, engine: Engine) -> None:
    """Raise ``ConfigError`` if a request of the workload is longer than the engine's context."""
    longest = max(len(prompt) + out for prompt, out in zip(workload.prompts, workload.output_lens, strict=True))
    if longest > engine.max_context_len:
        raise ConfigError(
            f"workload '{workload.name}' has a request of {longest} tokens, but the context is "
            f"{engine.max_context_len}; make it smaller (--scale {engine.max_context_len / longest:.2f} or less for a "
            "standard one) or choose another with --workload"
        )


def engine_runner(engine: Engine) -> Runner:
    """Runs workloads through an Engine: greedy, end tokens ignored."""
    from hookline.sampling_params import SamplingParams

    def run(workload: Workload) -> int:
        params = [
            SamplingParams(max_new_tokens=length, temperature=0.0, ignore_eos=True) for length in workload.output_lens
        ]
        outputs = engine.generate(input_ids=workload.prompts, sampling_params=params)
        return sum(len(output.output_ids) for output in outputs)

    return unprepared(run)


def unprepared(run: Callable[[Workload], int]) -> Runner:
    """A runner that has nothing to prepare."""
    return lambda workload: nullcontext(lambda: run(workload))


class TransformersBaseline:
    """The same checkpoint, dtype, device and threads in transformers."""

    def __init__(self, model_path: str, *, dtype: str, device: str) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

        config = AutoConfig.from_pretrained(model_path)
        multimodal = hasattr(config, "vision_config")
        auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
        self._device = device
        model: Any = auto.from_pretrained(model_path, dtype=getattr(torch, dtype))
        self._model = model.to(device).eval()

    def generate(self, workload: Workload) -> int:
        """``model.generate`` on one left-padded batch; it runs as long as the longest output."""
        import torch

        longest = max(len(prompt) for prompt in workload.prompts)
        pad = 0
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in workload.prompts], device=self._device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in workload.prompts], device=self._device)
        steps = max(workload.output_lens)
        with torch.inference_mode():
            out = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=steps,
                min_new_tokens=steps,
                do_sample=False,
                pad_token_id=pad,
            )
        assert out.shape[1] == longest + steps
        # Tokens beyond a request's own length are computed for nothing and do not count.
        return workload.num_output_tokens

    @contextmanager
    def generate_batch(self, workload: Workload) -> Iterator[Callable[[], int]]:
        """Continuous batching in transformers, with each request's own output length.

        Its manager and its cache, large enough for all requests at once, stand before the clock starts: left to
        itself it takes nine tenths of the memory for each call, which takes far longer than the generation.
        """
        from transformers import ContinuousBatchingConfig, GenerationConfig

        config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=max(workload.output_lens)
        )
        batching = ContinuousBatchingConfig()
        lengths = [len(prompt) + out for prompt, out in zip(workload.prompts, workload.output_lens, strict=True)]
        batching.num_blocks = _SPARE_BLOCKS + 2 * sum(math.ceil(length / batching.page_size) for length in lengths)
        # It makes tensors here that its own thread changes, so no inference_mode around it.
        with self._model.continuous_batching_context_manager(
            generation_config=config, continuous_batching_config=batching
        ) as manager:
            yield lambda: _collect(manager, workload)

    def runners(self) -> dict[str, Runner]:
        """Both ways, by name."""
        return {
            "transformers generate": unprepared(self.generate),
            "transformers generate_batch": self.generate_batch,
        }


def _collect(manager: Any, workload: Workload) -> int:
    for index, (prompt, length) in enumerate(zip(workload.prompts, workload.output_lens, strict=True)):
        manager.add_request(prompt, request_id=str(index), max_new_tokens=length)
    produced = finished = 0
    while finished < len(workload.prompts):
        result = manager.get_result(timeout=60)
        if result is None:
            raise RuntimeError("transformers generate_batch gave no result within 60 s")
        if result.is_finished():
            finished += 1
            produced += len(result.generated_tokens)
    return produced
