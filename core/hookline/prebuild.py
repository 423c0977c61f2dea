"""Prebuilding: compile what an engine compiles at first use, before there is one whose start waits for it.

What plugins name is compiled side by side; then an engine with made-up weights starts and runs every kind of pass,
which compiles the rest. All of it lands in the caches from which later engines take it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hookline.config.engine_plan import EnginePlan
from hookline.config.model_config import ModelConfig
from hookline.config.sources import LoadedConfig, Origin
from hookline.errors import PluginError
from hookline.interfaces.prebuild import KernelBuild, PrebuildEnv
from hookline.kernel_cache import compiled_kernels, use_kernel_cache
from hookline.plugins.plan import ChosenSpec
from hookline.sampling_params import SamplingParams

if TYPE_CHECKING:
    from hookline.engine import Engine

#: Lengths of prompts: kernels differ by the rows of a tile.
_LENGTHS = (2, 12, 30, 60, 130, 400)
_OUTPUT_LEN = 4
#: Of what a compiler says.
_LAST_LINES = 10
_LINE_LENGTH = 300
#: Beyond one chunk, so that a second one follows a prefix.
_BEYOND_CHUNK = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Prebuilt:
    """A line of the report."""

    what: str
    seconds: float
    #: "built", "cached", or which kernels were built.
    result: str


def build_named(plan: EnginePlan) -> Iterator[Prebuilt]:
    """Compile all that the chosen plugins name and that no cache holds, at once.

    Raises ``PluginError`` with what the compilers say, when all have ended.
    """
    builds = [(spec, build) for spec in plan.plugins.chosen if spec.prebuild for build in _named(plan, spec)]
    missing = [(spec, build) for spec, build in builds if not build.is_cached]
    yield from (
        Prebuilt(what=f"{spec.name}: {build.name}", seconds=0.0, result="cached")
        for spec, build in builds
        if build.is_cached
    )
    problems = []
    # Each thread waits for compilers, which are processes.
    with ThreadPoolExecutor(max_workers=max(1, len(missing))) as threads:
        running = [(spec, build, threads.submit(_seconds, build.build)) for spec, build in missing]
        for spec, build, future in running:
            error = future.exception()
            if error is None:
                yield Prebuilt(what=f"{spec.name}: {build.name}", seconds=future.result(), result="built")
            else:
                what = f"{spec.kind} '{spec.name}' of {spec.distribution}: {build.name}"
                problems.append(f"{what} does not build: {_end_of(error)}")
    if problems:
        raise PluginError("\n".join(problems))


def warm_up(loaded: LoadedConfig) -> Iterator[Prebuilt]:
    """Start an engine with made-up weights and run every kind of pass on it."""
    from hookline.engine import Engine

    before = compiled_kernels(loaded.config.execution.kernel_cache_dir)
    begun = time.perf_counter()

    def stage(what: str) -> Prebuilt:
        nonlocal before, begun
        after = compiled_kernels(loaded.config.execution.kernel_cache_dir)
        now = time.perf_counter()
        built = Prebuilt(what=what, seconds=now - begun, result=_built(after - before))
        before, begun = after, now
        return built

    with Engine.from_config(_with_made_up_weights(loaded)) as engine:
        yield stage("an engine's start")
        runs = _Runs(engine)
        for what, run in (
            ("prefills and decodes", runs.prompts),
            ("new tokens after a prefix", runs.longer_prompts),
            ("sampling", runs.sampling),
        ):
            run()
            yield stage(what)


class _Runs:
    """Requests that make an engine run each kind of pass."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        schedule = engine.config.schedule
        chunk = schedule.chunked_prefill_size
        longest = (chunk if isinstance(chunk, int) else schedule.max_prefill_tokens) + _BEYOND_CHUNK
        room = min(engine.max_context_len, engine.server_state()["total_tokens"])
        # Half of the room: all prompts of a stage, and what a longer one adds.
        self._lengths = sorted({max(1, min(length, room // 2 - _BEYOND_CHUNK)) for length in (*_LENGTHS, longest)})

    def prompts(self) -> None:
        """Alone, and in one batch."""
        for length in self._lengths:
            self._run([length], SamplingParams(temperature=0.0))
        self._run(self._lengths[:-1], SamplingParams(temperature=0.0))

    def longer_prompts(self) -> None:
        """The same beginnings, which the prefix cache holds."""
        for more in (1, 20):
            self._run([length + more for length in self._lengths[:-1]], SamplingParams(temperature=0.0))

    def sampling(self) -> None:
        """Every way to choose a token."""
        for params in (
            SamplingParams(temperature=0.8),
            SamplingParams(temperature=0.8, top_k=20),
            SamplingParams(temperature=0.8, top_p=0.9, min_p=0.05, seed=1),
            SamplingParams(temperature=0.8, frequency_penalty=0.2, logit_bias={1: 1.0}),
        ):
            self._run([12, 30], params)

    def _run(self, lengths: list[int], params: SamplingParams) -> None:
        params = params.replace(max_new_tokens=_OUTPUT_LEN, ignore_eos=True)
        vocab = self._engine.vocab_size
        # Each begins with a token of its own, so that they share no prefix with each other.
        ids = [[(length * 7919 + place) % vocab for place in range(length)] for length in lengths]
        self._engine.generate(input_ids=ids, sampling_params=params)


def _named(plan: EnginePlan, spec: ChosenSpec) -> list[KernelBuild]:
    import torch

    config = plan.config
    page_size = config.cache.page_size
    assert isinstance(page_size, int), "resolution fills cache.page_size"
    use_kernel_cache(config.execution.kernel_cache_dir)
    builds: list[KernelBuild] = plan.plugins.load_target(spec, spec.prebuild)(
        PrebuildEnv(
            model=ModelConfig.load(plan.model_dir),
            device=torch.device(config.execution.device),
            dtype=getattr(torch, config.model.dtype),
            page_size=page_size,
            kernel_cache_dir=config.execution.kernel_cache_dir,
            options=plan.plugins.options_of(spec),
        )
    )
    return builds


def _seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _end_of(error: BaseException) -> str:
    """Compilers tell their command lines first, which fill screens, and what is wrong at the end."""
    return "\n".join(line[-_LINE_LENGTH:] for line in str(error).splitlines()[-_LAST_LINES:])


def _built(kernels: Counter[str]) -> str:
    if not kernels:
        return "cached"
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in sorted(kernels.items())) + " built"


def _with_made_up_weights(loaded: LoadedConfig) -> LoadedConfig:
    values = {"load_format": "dummy", "skip_tokenizer_init": True}
    origin = Origin(kind="flag", text="hookline kernels prebuild")
    model = loaded.config.model.model_copy(update=values)
    return LoadedConfig(
        config=loaded.config.model_copy(update={"model": model}),
        origins={**loaded.origins, **{f"model.{name}": origin for name in values}},
    )
