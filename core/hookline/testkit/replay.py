"""The same question in another process, where sets have another order, the clock runs faster and luck is another."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from hookline.testkit.offer_suite import in_child
from hookline.testkit.workloads import Bench, PassTaken, SchedulerUnderTest, sample_workloads

#: How much faster, in the second process.
_HURRY = 1000


class _Question(msgspec.Struct, frozen=True):
    subject: SchedulerUnderTest
    checkpoint: str
    policies: list[str]
    hurry: int


def passes_in_two_processes(
    subject: SchedulerUnderTest, checkpoint: Path, policies: list[str]
) -> tuple[list[list[PassTaken | None]], list[list[PassTaken | None]]]:
    """What a scheduler does with the sample workloads, in each of two processes that differ."""
    first, second = (
        msgspec.json.decode(
            in_child(
                f"from {__name__} import answer; answer()",
                msgspec.json.encode(_Question(subject, str(checkpoint), policies, hurry)),
                hash_seed=hurry,
            ),
            type=list[list[PassTaken | None]],
        )
        for hurry in (1, _HURRY)
    )
    return first, second


def answer() -> None:
    """Runs in the child process: the question comes from standard input, the answer goes to standard output."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=_Question)
    for clock in ("time", "monotonic", "perf_counter"):
        setattr(time, clock, _faster(getattr(time, clock), question.hurry))
    answers = []
    for workload in sample_workloads(question.policies):
        bench = Bench(Path(question.checkpoint), question.subject, workload)
        bench.run()
        answers.append(bench.passes)
    sys.stdout.buffer.write(msgspec.json.encode(answers))


def _faster(clock: Callable[[], float], factor: int) -> Callable[[], float]:
    start = clock()
    return lambda: start + (clock() - start) * factor
