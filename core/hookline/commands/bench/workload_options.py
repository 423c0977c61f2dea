"""WorkloadChoice: the workloads that a measurement's options name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from hookline.bench.workload_file import read_workloads
from hookline.bench.workloads import SHAPES, STANDARD, Workload, make_workload, standard_workloads

#: Stands for the four standard workloads.
_ALL = "standard"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadChoice:
    """What the options say; ``make`` gives the workloads once the vocabulary is known."""

    workload: tuple[str, ...]
    workload_file: Path | None
    scale: float
    num_requests: int
    input_len: int
    output_len: int
    prefix_len: int
    workload_seed: int

    def make(self, vocab_size: int) -> list[Workload]:
        """The workloads, in the order in which they were named. Raises ``ConfigError`` for a bad file."""
        if self.workload_file is not None:
            return read_workloads(self.workload_file, vocab_size)
        standard = standard_workloads(vocab_size, scale=self.scale)
        found: list[Workload] = []
        for name in self.workload:
            if name == _ALL:
                found += standard.values()
            else:
                found.append(standard.get(name) or self._shaped(name, vocab_size))
        return found

    def make_one(self, vocab_size: int) -> Workload:
        """The workload, for a measurement that takes one. Raises ``click.UsageError`` when there are several."""
        found = self.make(vocab_size)
        if len(found) > 1:
            names = ", ".join(workload.name for workload in found)
            raise click.UsageError(f"this command takes one workload, not {len(found)} ({names})")
        return found[0]

    def _shaped(self, name: str, vocab_size: int) -> Workload:
        return make_workload(
            name,
            num_requests=self.num_requests,
            input_len=self.input_len,
            output_len=self.output_len,
            prefix_len=self.prefix_len,
            vocab_size=vocab_size,
            seed=self.workload_seed,
        )


def workload_options(*, default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options that choose workloads; the function gets them as one argument, ``workloads``."""
    names = click.Choice([_ALL, *STANDARD, *SHAPES])
    options = (
        click.option(
            "--workload",
            type=names,
            multiple=True,
            default=[default],
            show_default=True,
            help="standard: the four of fixed sizes; may be repeated",
        ),
        click.option(
            "--workload-file", type=click.Path(path_type=Path), metavar="FILE", help="JSON with workloads of your own"
        ),
        click.option(
            "--scale",
            type=click.FloatRange(min=0, min_open=True),
            default=1.0,
            show_default=True,
            help="multiplies requests and lengths of the standard four",
        ),
        click.option("--num-requests", type=_COUNT, default=32, show_default=True, help="requests of the other shapes"),
        click.option(
            "--input-len", type=_COUNT, default=128, show_default=True, help="prompt tokens (uneven: at most)"
        ),
        click.option(
            "--output-len", type=_COUNT, default=64, show_default=True, help="output tokens (uneven: at most)"
        ),
        click.option(
            "--prefix-len", type=_COUNT, default=512, show_default=True, help="shared tokens of shared-prefix"
        ),
        click.option("--workload-seed", default=0, show_default=True),
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_choice(*args: Any, **values: Any) -> Any:
            choice = WorkloadChoice(**{field.name: values.pop(field.name) for field in fields(WorkloadChoice)})
            return function(*args, workloads=choice, **values)

        wrapped: Callable[..., Any] = with_choice
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


_COUNT = click.IntRange(min=1)
