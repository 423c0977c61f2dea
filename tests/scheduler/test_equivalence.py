"""The output of a request depends on its tokens alone, whatever is done to schedule it."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from hookline.messages.requests import LogprobRequest, PoolingRequest
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.plans import chosen
from hookline.testkit.properties import examples
from hookline.testkit.scheduling import VOCAB_SIZE, Harness, Output, talkative_prompts
from hookline.testkit.workloads import Bench, SchedulerUnderTest, Workload, workloads

RETRACTING = "tests.factories.schedulers:RetractingScheduler"
OTHER = "tests.factories.schedulers:OneByOneScheduler"
POOLERS = [chosen("poolers", "last", "x:y"), chosen("poolers", "mean", "x:y", details={"needs_all_tokens": True})]

VARIANTS: dict[str, dict[str, Any]] = {
    "no overlap": {"overlap": False},
    "page 16": {"page": 16},
    "page 64": {"page": 64},
    "page 64, no overlap": {"page": 64, "overlap": False},
    "chunks of 1": {"chunk": 1},
    "chunks of 7": {"chunk": 7},
    "chunks of a page": {"chunk": 16, "page": 16},
    "chunks of the longest prompt": {"chunk": 130},
    "mixed": {"chunk": 16, "schedule": {"enable_mixed_chunk": True}},
    "mixed, page 16, no overlap": {
        "chunk": 16,
        "page": 16,
        "overlap": False,
        "schedule": {"enable_mixed_chunk": True},
    },
    "no cache": {"cache": False},
    "no cache, chunks": {"cache": False, "chunk": 7},
    "tiny pool": {"slots": 128, "schedule": {"schedule_conservativeness": 0.01}},
    "tiny pool, page 4": {"slots": 128, "page": 4, "schedule": {"schedule_conservativeness": 0.01}},
    "tiny pool, no cache": {"slots": 128, "cache": False, "schedule": {"schedule_conservativeness": 0.01}},
    "tiny pool, no overlap": {"slots": 128, "overlap": False, "schedule": {"schedule_conservativeness": 0.01}},
    "retraction": {"scheduler": RETRACTING},
    "retraction, page 16": {"scheduler": RETRACTING, "page": 16},
    "retraction, no overlap": {"scheduler": RETRACTING, "overlap": False},
    "retraction, no cache, chunks": {"scheduler": RETRACTING, "cache": False, "chunk": 7},
    "another scheduler": {"scheduler": OTHER},
    "another scheduler, page 16": {"scheduler": OTHER, "page": 16},
    "another scheduler, tiny pool": {"scheduler": OTHER, "slots": 128},
    "two rows": {"rows": 2},
    "lpm": {"policy": "lpm"},
}


def run(
    checkpoint: Path, *, page: int = 1, slots: int = 4096, rows: int = 32, chunk: int | None = None, **options: Any
) -> dict[str, Output]:
    """A fixed mix of requests, twice, so that the second time meets a warm cache."""
    worker = FakeWorker(max_total_tokens=slots, page_size=page, max_running_requests=rows)
    harness = Harness(checkpoint, worker, chunk=chunk, plugins=POOLERS, **options)
    rng = random.Random(5)
    shared = [rng.randrange(VOCAB_SIZE) for _ in range(48)]
    for turn in ("cold", "warm"):
        for i, prompt in enumerate(talkative_prompts(5, 60)):
            # Little to admit, much to come: these run out of slots in a small pool.
            harness.add(f"{turn} grows{i}", prompt, 60, ignore_eos=False)
        for i in range(8):
            own = [(i * 7 + k) % VOCAB_SIZE for k in range((1, 16, 33, 80)[i % 4])]
            prompt = own if i % 2 else shared[: 16 * (i % 4 + 1)] + own
            wish = LogprobRequest(top=2, token_ids=(3,), input_start=(0, 5, None)[i % 3]) if i < 6 else None
            if wish is not None and wish.input_start is not None:
                wish = LogprobRequest(top=2, token_ids=(3,), input_start=min(wish.input_start, len(prompt)))
            harness.add(
                f"{turn}{i}", prompt, 3 + 4 * i, logprobs=wish, ignore_eos=i % 3 == 1, min_new_tokens=i % 4, n=1
            )
        for pooling in ("last", "mean"):
            harness.add(f"{turn} {pooling}", [*shared, 1, 2], pooling=PoolingRequest(pooling=pooling))
        harness.run()
    harness.assert_idle()
    return harness.outputs


@cache
def reference(checkpoint: Path) -> dict[str, Output]:
    return run(checkpoint)


def test_the_reference_is_what_the_model_gives(checkpoint: Path) -> None:
    outputs = reference(checkpoint)
    prompt = [(7 + k) % VOCAB_SIZE for k in range(16)]
    assert outputs["cold1"].token_ids == expected_output(prompt, 7, VOCAB_SIZE, min_new_tokens=1)
    assert outputs["cold1"].input_logprobs is not None
    assert len(outputs["cold1"].input_logprobs) == len(prompt) - 5
    assert len(outputs["cold1"].logprobs) == 7
    assert outputs["warm7"].stats is not None
    assert outputs["warm7"].stats.cached_tokens > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_output_and_logprobs_do_not_depend_on_the_schedule(variant: str, checkpoint: Path) -> None:
    outputs = run(checkpoint, **VARIANTS[variant])
    for rid, wanted in reference(checkpoint).items():
        found = outputs[rid]
        assert found.token_ids == wanted.token_ids, rid
        assert found.finish == wanted.finish, rid
        assert found.logprobs == wanted.logprobs, rid
        assert found.input_logprobs == wanted.input_logprobs, rid
        if rid.endswith("last"):
            assert found.embedding is not None
            assert found.embedding[:1] == (wanted.embedding or [])[:1]
        if rid.endswith("mean"):
            # Every prompt token was fed to the pooler, however many were cached.
            assert found.embedding == wanted.embedding
    if "retraction" in variant or "tiny pool" in variant:
        assert sum(output.stats.num_retractions for output in outputs.values() if output.stats) > 0


@pytest.mark.parametrize("target", [RETRACTING, OTHER])
@examples(40)
@given(workload=workloads())
def test_random_arrivals_and_aborts_in_tiny_pools_all_end_and_leak_nothing(
    workload: Workload, target: str, checkpoint: Path
) -> None:
    """Under schedulers that do what the shipped ones never would; those pass the whole suite."""
    subject = SchedulerUnderTest(spec=chosen("schedulers", "under-test", target), may_mix=True)
    bench = Bench(checkpoint, subject, workload)
    bench.run()
    bench.check_output()


def test_fcfs_starts_requests_in_their_order_of_arrival(checkpoint: Path) -> None:
    """Also when a short one behind a long one would have fitted."""
    rng = random.Random(1)
    worker = FakeWorker(max_total_tokens=128, max_running_requests=4)
    harness = Harness(checkpoint, worker, chunk=16, cache=False)
    started: list[str] = []
    worker.on_launch = lambda batch: started.extend(
        batch.rids[batch.req_pool_indices.tolist().index(sampling.row)]
        for sampling in batch.new_rows
        if not sampling.output_ids
    )
    for i in range(20):
        harness.add(f"{i}", [rng.randrange(VOCAB_SIZE) for _ in range(rng.choice([2, 90]))], rng.choice([2, 30]))
    harness.run()
    first_starts = list(dict.fromkeys(started))
    assert first_starts == [f"{i}" for i in range(20)]
