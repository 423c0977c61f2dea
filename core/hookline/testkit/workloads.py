"""Workloads: what a scheduler under test is asked to do on the fake device, and what it made of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from hookline.batch.forward_mode import ForwardMode
from hookline.batch.worker_batch import ModelWorkerBatch
from hookline.plugins.plan import ChosenSpec
from hookline.testkit import orders
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.plans import chosen
from hookline.testkit.scheduling import EOS, VOCAB_SIZE, Harness

#: Policies that need no plugin, and are not of one kind.
ORDERS = {
    name: chosen("schedule_policies", name, f"{orders.__name__}:{order.__name__}")
    for name, order in {
        "arrival": orders.ArrivalOrder,
        "newest": orders.NewestFirst,
        "most-cached": orders.MostCachedFirst,
    }.items()
}
#: Prompts of different requests begin with up to so many tokens of this.
_SHARED = tuple(random.Random(0).choices(range(VOCAB_SIZE), k=60))
#: Passes that a workload may take for each of its tokens: retracted requests are computed again.
_PASSES_PER_TOKEN = 4


class Prompt(tuple[int, ...]):
    """Token ids, shown by what they are made of: a failing workload is read by people."""

    num_shared: int

    def __new__(cls, num_shared: int, own: Sequence[int]) -> Prompt:
        """Begins with so many of the tokens that prompts share."""
        prompt = super().__new__(cls, (*_SHARED[:num_shared], *own))
        prompt.num_shared = num_shared
        return prompt

    def __repr__(self) -> str:
        return f"<{self.num_shared} shared tokens and {len(self) - self.num_shared} own>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request."""

    rid: str
    prompt: tuple[int, ...]
    max_new_tokens: int
    ignore_eos: bool = True
    priority: int = 0
    #: The step before which it is sent.
    arrives: int = 0
    #: The step before which its client goes away; may be before it came, or after its end.
    cancelled: int | None = None

    @property
    def output(self) -> list[int]:
        """What the fake device generates for it."""
        ends = () if self.ignore_eos else (EOS,)
        return expected_output(self.prompt, self.max_new_tokens, VOCAB_SIZE, ends=ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Requests, and the engine that serves them."""

    jobs: tuple[Job, ...]
    policy: str = "arrival"
    page_size: int = 1
    #: Size of the KV pool.
    num_slots: int = 320
    num_rows: int = 16
    overlap: bool = True
    cache: bool = True
    chunk: int | None = None
    #: Further values of the config section ``schedule``.
    schedule: Mapping[str, Any] = field(default_factory=dict)


class SchedulerUnderTest(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is told of a scheduler. Plain data, so that another process can be told too."""

    spec: ChosenSpec
    #: Policies that workloads name, besides those that are installed and those of ``ORDERS``.
    policies: list[ChosenSpec] = []
    #: Values of the config section ``schedule`` that it is always run with.
    schedule: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    config_models: dict[str, str] = {}
    #: Whether it may decode in the pass of a prefill although the config does not ask for that.
    may_mix: bool = False
    max_idle_passes: int = 8


#: The requests of a pass, in which mode, from where to where, and into which slots.
PassTaken = tuple[str, list[str], list[int], list[int], list[int]]


class Bench:
    """An engine with the scheduler under test, which it checks at every step."""

    def __init__(self, checkpoint: Path, subject: SchedulerUnderTest, workload: Workload) -> None:
        self._subject = subject
        self._workload = workload
        self._schedule = {**workload.schedule, **subject.schedule}
        self._num_idle = 0
        self.worker = FakeWorker(
            max_total_tokens=workload.num_slots,
            max_running_requests=workload.num_rows,
            page_size=workload.page_size,
        )
        self.harness = Harness(
            checkpoint,
            self.worker,
            scheduler=subject.spec,
            plugins=[*subject.policies, *ORDERS.values()],
            policy=workload.policy,
            overlap=workload.overlap,
            cache=workload.cache,
            chunk=workload.chunk,
            schedule=self._schedule,
            config={"plugins": subject.options},
            config_models=subject.config_models,
        )
        #: One for each step; ``None`` where nothing was launched.
        self.passes: list[PassTaken | None] = []

    def send(self, job: Job) -> None:
        self.harness.add(
            job.rid, job.prompt, job.max_new_tokens, ignore_eos=job.ignore_eos, priority=job.priority, stream=True
        )

    def step(self) -> bool:
        """One turn of the loop, which may launch a pass. Returns whether there is work left."""
        num_launched = len(self.worker.batches)
        has_work = self.harness.step()
        if len(self.worker.batches) > num_launched:
            batch = self.worker.batches[-1]
            self._check_bounds(batch)
            self.passes.append(_taken(batch))
            self._num_idle = 0
        else:
            self.passes.append(None)
            self._num_idle = self._num_idle + 1 if has_work else 0
        assert self._num_idle <= self._subject.max_idle_passes, (
            f"{self._num_idle} passes in a row do nothing: {self.harness.state}"
        )
        return has_work

    def run(self) -> None:
        """The whole workload, to its end; and nothing may be left of it."""
        jobs = self._workload.jobs
        events = sorted({job.arrives for job in jobs} | {job.cancelled for job in jobs if job.cancelled is not None})
        num_tokens = sum(len(job.prompt) + job.max_new_tokens for job in jobs)
        step = 0
        for _ in range(100 + _PASSES_PER_TOKEN * num_tokens + len(events)):
            if step in events:
                self._send(step)
            if self.step():
                step += 1
            elif step >= max(events, default=0):
                break
            else:
                # Nothing is left to do until the next one comes.
                step = min(event for event in events if event > step)
        else:
            raise AssertionError(f"work goes round in circles: {self.harness.state}")
        self.harness.assert_idle()

    def check_output(self) -> None:
        """Every request ended, with exactly its tokens."""
        outputs = self.harness.outputs
        for job in self._workload.jobs:
            assert job.rid in outputs, f"request {job.rid} never ended"
            found, wanted = outputs[job.rid], job.output
            assert found.reason is not None, f"request {job.rid} never ended"
            if found.reason == "abort":
                assert job.cancelled is not None, f"request {job.rid} was rejected: {found.finish}"
                wanted = wanted[: len(found.token_ids)]
            assert found.token_ids == wanted, f"request {job.rid}"

    def _send(self, step: int) -> None:
        for job in self._workload.jobs:
            if job.arrives == step:
                self.send(job)
        self.harness.abort(*(job.rid for job in self._workload.jobs if job.cancelled == step))

    def _check_bounds(self, batch: ModelWorkerBatch) -> None:
        """What the config bounds: memory was measured for no more."""
        num_extends = batch.batch_size - len(batch.future_index)
        extends = (batch.seq_lens - batch.prefix_lens)[:num_extends].tolist()
        chunk = self._workload.chunk
        if chunk is not None:
            # Less than a page cannot be a chunk.
            assert max(extends, default=0) <= max(chunk, self._workload.page_size), (
                f"chunks of {extends} tokens, but schedule.chunked_prefill_size is {chunk}"
            )
        most = self._schedule.get("max_prefill_tokens", 16384)
        assert len(extends) < 2 or sum(extends) <= most, (
            f"requests prefill {extends} tokens in one pass, but schedule.max_prefill_tokens is {most}"
        )
        if batch.mode is ForwardMode.MIXED:
            assert self._subject.may_mix or self._schedule.get("enable_mixed_chunk", False), (
                "a pass prefills and decodes, which an attention backend need not support: do so only if "
                "schedule.enable_mixed_chunk is set, or impose the feature 'mixed' on attention_backends"
            )


def _taken(batch: ModelWorkerBatch) -> PassTaken:
    return (
        batch.mode.name,
        batch.rids,
        batch.prefix_lens.tolist(),
        batch.seq_lens.tolist(),
        batch.out_cache_loc.tolist(),
    )


@st.composite
def workloads(draw: st.DrawFn, policies: Sequence[str] = tuple(ORDERS)) -> Workload:
    """Up to a dozen requests that share prefixes, come and go at any time, and do not all fit."""
    page_size = draw(st.sampled_from([1, 1, 4, 16]))
    rows = st.tuples(
        st.sampled_from([0, 0, 10, 33, 60]),  # shared tokens
        st.sampled_from([1, 3, 16, 40]),  # tokens of its own
        st.sampled_from([0, 1, 2, 9, 30]),  # output
        st.booleans(),  # ignore_eos
        st.sampled_from([0, 0, 5, 30]),  # priority
        st.integers(0, 40),  # arrival
        st.one_of(st.none(), st.none(), st.integers(0, 60)),  # cancelled
    )
    return Workload(
        jobs=_jobs(draw(st.lists(rows, min_size=1, max_size=12))),
        policy=draw(st.sampled_from(list(policies))),
        page_size=page_size,
        num_slots=draw(st.sampled_from([144, 176, 320])) // page_size * page_size,
        num_rows=draw(st.sampled_from([2, 5, 16])),
        overlap=draw(st.booleans()),
        cache=draw(st.booleans()),
        chunk=draw(st.sampled_from([None, 1, 7, 16, 40])),
        schedule={
            "enable_mixed_chunk": draw(st.booleans()),
            "schedule_conservativeness": draw(st.sampled_from([0.01, 0.3, 1.0, 2.0])),
            "enable_priority": draw(st.booleans()),
            "max_prefill_tokens": draw(st.sampled_from([30, 16384])),
        },
    )


def sample_workloads(policies: Sequence[str]) -> list[Workload]:
    """A workload for each policy, the same in every process."""
    choose = random.Random(1).choice
    return [
        Workload(
            jobs=_jobs(
                [
                    (
                        choose([0, 10, 33, 60]),
                        choose([1, 16, 40]),
                        choose([2, 9, 30]),
                        True,
                        choose([0, 30]),
                        choose([0, 0, 0, 12]),
                        None,
                    )
                    for _ in range(20)
                ]
            ),
            policy=policy,
            num_slots=176,
            num_rows=12,
            overlap=i % 2 == 0,
            chunk=16,
            schedule={"schedule_conservativeness": 0.01, "enable_priority": True},
        )
        for i, policy in enumerate(policies)
    ]


def _jobs(rows: Sequence[tuple[int, int, int, bool, int, int, int | None]]) -> tuple[Job, ...]:
    own = random.Random(len(rows))
    return tuple(
        Job(
            rid=f"r{i}",
            prompt=Prompt(shared, own.choices(range(VOCAB_SIZE), k=num_own)),
            max_new_tokens=output,
            ignore_eos=ignore_eos,
            priority=priority,
            arrives=arrives,
            cancelled=cancelled,
        )
        for i, (shared, num_own, output, ignore_eos, priority, arrives, cancelled) in enumerate(rows)
    )
