"""Measuring in turns: what is timed, what is compared, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hookline.bench.offline import measure_in_turns, unprepared
from hookline.bench.workloads import Workload, make_workload


def workload() -> Workload:
    return make_workload("mixed", num_requests=3, input_len=8, output_len=4, prefix_len=0, vocab_size=99, seed=1)


def test_runners_take_turns_and_meet_another_first_token_each_time() -> None:
    order: list[tuple[str, int]] = []

    def runner(name: str) -> Callable[[Workload], int]:
        def run(variant: Workload) -> int:
            order.append((name, variant.prompts[0][0]))
            return variant.num_output_tokens

        return run

    results = measure_in_turns({"a": unprepared(runner("a")), "b": unprepared(runner("b"))}, workload(), repetitions=2)
    assert order == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]
    assert [result.name for result in results] == ["a", "b"]
    assert all(result.output_tokens == workload().num_output_tokens for result in results)


def test_preparing_and_clearing_up_surround_each_run() -> None:
    events: list[str] = []

    @contextmanager
    def prepare(variant: Workload) -> Iterator[Callable[[], int]]:
        events.append("prepare")

        def run() -> int:
            events.append("run")
            return variant.num_output_tokens

        yield run
        events.append("clear up")

    measure_in_turns({"a": prepare}, workload(), repetitions=1)
    assert events == ["prepare", "run", "clear up"] * 2


def test_a_runner_that_does_less_work_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="lazy made 1 output tokens"):
        measure_in_turns({"lazy": unprepared(lambda _: 1)}, workload(), repetitions=1)
