"""Where the time of passes goes on a GPU: kernels by name, gaps between them, and the shares of both.

    PYTHONPATH=core HOOKLINE_SOURCE_TREE=plugins python benchmarks/steps.py --shape qwen3-0.6b \
        [--decode B:CONTEXT ...] [--prefill B:LENGTH ...] [--set SECTION.NAME=VALUE ...] [--top N] [--json FILE]

For each case an engine with made-up weights first runs the same requests once, then under torch's profiler. Decodes are
the steps of B requests of about CONTEXT tokens; prefills the passes of B new prompts. A gap is time in which no kernel
runs while the engine works.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from hookline import Engine, SamplingParams
from hookline.bench.model_shapes import MODEL_SHAPES

#: Tokens that each request of a decode case generates under the profiler.
DECODE_STEPS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTime:
    name: str
    calls: int
    microseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    case: str
    passes: int
    #: Of one pass, in microseconds: wall time, time with a kernel running, and time without.
    wall: float
    busy: float
    gaps: float
    #: Wall time of a pass without the profiler.
    unprofiled: float
    kernels: list[KernelTime]


def kernel_spans(profiler: Any) -> Iterator[tuple[str, float, float]]:
    """(name, begin, end) in microseconds of everything that ran on the device."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    for event in events:
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            yield event["name"], float(event["ts"]), float(event["ts"]) + float(event["dur"])


def short_name(name: str) -> str:
    """A kernel's name without template arguments."""
    return re.sub(r"<.*", "", name.removeprefix("void "))[:60]


def summarise(case: str, spans: list[tuple[str, float, float]], passes: int, unprofiled: float) -> Breakdown:
    spans = sorted(spans, key=lambda span: span[1])
    busy = end = 0.0
    totals: dict[str, list[float]] = defaultdict(list)
    for name, begin, finish in spans:
        totals[short_name(name)].append(finish - begin)
        busy += max(0.0, finish - max(begin, end))
        end = max(end, finish)
    wall = end - spans[0][1]
    kernels = [
        KernelTime(name=name, calls=len(times), microseconds=sum(times) / passes) for name, times in totals.items()
    ]
    return Breakdown(
        case=case,
        passes=passes,
        wall=wall / passes,
        busy=busy / passes,
        gaps=(wall - busy) / passes,
        unprofiled=unprofiled,
        kernels=sorted(kernels, key=lambda kernel: -kernel.microseconds),
    )


class Subject:
    """An engine, and prompts that no cache knows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._random = random.Random(0)

    def prompts(self, count: int, length: int) -> list[list[int]]:
        return [[self._random.randrange(1000, 150_000) for _ in range(length)] for _ in range(count)]

    def run(self, prompts: list[list[int]], new_tokens: int) -> None:
        params = SamplingParams(max_new_tokens=new_tokens, temperature=0.0, ignore_eos=True)
        self._engine.generate(input_ids=prompts, sampling_params=params)
        torch.cuda.synchronize()

    def decode(self, batch: int, context: int) -> Breakdown:
        prompts = self.prompts(batch, context - DECODE_STEPS // 2)
        # The first computes the prompts, the second compiles what their last tokens need.
        self.run(prompts, 2)
        self.run(prompts, 1)
        begun = time.perf_counter()
        self.run(prompts, 1)
        prefix = time.perf_counter() - begun
        begun = time.perf_counter()
        self.run(prompts, DECODE_STEPS + 1)
        unprofiled = (time.perf_counter() - begun - prefix) / DECODE_STEPS * 1e6
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            self.run(prompts, DECODE_STEPS + 1)
        # The prompts are cached but for one token: the first pass is short, and is dropped with what lies before.
        spans = self._after_first_pass(list(kernel_spans(profiler)))
        return summarise(f"decode {batch} x {context}", spans, DECODE_STEPS, unprofiled)

    def _after_first_pass(self, spans: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
        spans = sorted(spans, key=lambda span: span[1])
        # A pass ends with its tokens on the way to the host.
        copies = [end for name, _, end in spans if "Memcpy DtoH" in name]
        first_end = copies[min(2, len(copies) - 1)]
        return [span for span in spans if span[1] >= first_end]

    def prefill(self, batch: int, length: int) -> Breakdown:
        self.run(self.prompts(batch, length), 1)
        begun = time.perf_counter()
        self.run(self.prompts(batch, length), 1)
        unprofiled = (time.perf_counter() - begun) * 1e6
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            self.run(self.prompts(batch, length), 1)
        return summarise(f"prefill {batch} x {length}", list(kernel_spans(profiler)), 1, unprofiled)


def show(found: Breakdown, top: int) -> None:
    sys.stdout.write(
        f"\n{found.case}: {found.wall:.0f} us a pass (without the profiler {found.unprofiled:.0f}), kernels run "
        f"{found.busy:.0f}, gaps {found.gaps:.0f} ({found.gaps / found.wall:.0%})\n"
    )
    for kernel in found.kernels[:top]:
        share = kernel.microseconds / found.busy
        calls = kernel.calls / found.passes
        sys.stdout.write(f"  {kernel.microseconds:10.1f} us {share:5.1%} {calls:7.1f} calls  {kernel.name}\n")
    sys.stdout.flush()


def pair(text: str) -> tuple[int, int]:
    batch, _, length = text.partition(":")
    return int(batch), int(length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(MODEL_SHAPES), default="qwen3-0.6b")
    parser.add_argument("--decode", type=pair, nargs="*", default=[(1, 256), (256, 600)], metavar="B:CONTEXT")
    parser.add_argument("--prefill", type=pair, nargs="*", default=[(8, 2048)], metavar="B:LENGTH")
    parser.add_argument("--set", dest="settings", nargs="*", default=[], metavar="NAME=VALUE", help="Engine keywords")
    parser.add_argument("--top", type=int, default=14)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = {name: json.loads(value) for name, _, value in (text.partition("=") for text in options.settings)}
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(MODEL_SHAPES[options.shape]))
        found = []
        with Engine(directory, load_format="dummy", skip_tokenizer_init=True, max_model_len=8192, **settings) as engine:
            sys.stdout.write(f"start: {engine.start_timeline}\n")
            subject = Subject(engine)
            for batch, context in options.decode:
                found.append(subject.decode(batch, context))
                show(found[-1], options.top)
            for batch, length in options.prefill:
                found.append(subject.prefill(batch, length))
                show(found[-1], options.top)
    if options.json:
        options.json.write_text(json.dumps([asdict(breakdown) for breakdown in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
