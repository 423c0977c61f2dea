"""What is let in, what is refused with which words, and what a full queue does."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.messages.requests import LogprobRequest, PoolingRequest
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.plans import chosen
from hookline.testkit.scheduling import VOCAB_SIZE, Harness, Output

POOLERS = [chosen("poolers", "last", "x:y"), chosen("poolers", "mean", "x:y", details={"needs_all_tokens": True})]


def refused(output: Output) -> tuple[int, str, str]:
    assert output.finish is not None
    assert output.finish.type == "abort"
    assert output.token_ids == []
    return output.finish.status_code, output.finish.code, output.finish.message


def test_an_empty_prompt_is_refused(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [])
    assert refused(harness.run()["a"])[0] == 400


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE])
def test_a_token_outside_the_vocabulary_is_refused_by_its_number(checkpoint: Path, token_id: int) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5, token_id, 6])
    status, _, message = refused(harness.run()["a"])
    assert status == 400
    assert f"token id {token_id} is outside the vocabulary (0 to {VOCAB_SIZE - 1})" in message


def test_a_prompt_that_fills_the_context_is_refused_and_the_next_is_served(checkpoint: Path) -> None:
    harness = Harness(checkpoint, FakeWorker(max_context_len=16))
    harness.add("full", [5] * 16)
    harness.add("fits", [5] * 15, 8)
    outputs = harness.run()
    assert refused(outputs["full"])[:2] == (400, "context_length_exceeded")
    assert "16 tokens" in refused(outputs["full"])[2]
    # One output token is all there is room for.
    assert outputs["fits"].token_ids == expected_output([5] * 15, 1, VOCAB_SIZE)
    assert outputs["fits"].reason == "length"
    harness.assert_idle()


def test_a_prompt_that_only_wants_its_logprobs_may_fill_the_context(checkpoint: Path) -> None:
    harness = Harness(checkpoint, FakeWorker(max_context_len=16))
    harness.add("a", [5] * 16, 0, logprobs=LogprobRequest(input_start=0))
    output = harness.run()["a"]
    assert output.reason == "length"
    assert output.token_ids == []
    assert output.input_logprobs is not None
    assert [entry.token_id for entry in output.input_logprobs] == [5] * 16
    assert output.input_logprobs[0].logprob is None
    harness.assert_idle()


def test_a_prompt_larger_than_the_pool_is_refused_and_never_hangs(checkpoint: Path) -> None:
    harness = Harness(checkpoint, FakeWorker(max_total_tokens=40, page_size=4))
    harness.add("large", [5] * 41)
    harness.add("small", [6] * 10, 4)
    outputs = harness.run()
    status, code, message = refused(outputs["large"])
    assert (status, code) == (400, "context_length_exceeded")
    assert "the KV cache holds 40" in message
    assert outputs["small"].token_ids == expected_output([6] * 10, 4, VOCAB_SIZE)
    harness.assert_idle()


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("chunk", [None, 7])
def test_one_request_may_use_the_whole_pool(checkpoint: Path, cache: bool, chunk: int | None) -> None:
    harness = Harness(checkpoint, FakeWorker(max_total_tokens=48, page_size=16), cache=cache, chunk=chunk)
    harness.add("before", [9] * 20, 5)
    harness.add("whole", [5] * 30, None)
    harness.add("after", [7] * 20, 5)
    outputs = harness.run()
    # 48 slots hold 30 prompt tokens and 18 of the output; the last output token needs none.
    assert outputs["whole"].token_ids == expected_output([5] * 30, 19, VOCAB_SIZE)
    assert outputs["after"].reason == "length"
    harness.assert_idle()


def test_prompt_logprobs_from_beyond_the_prompt_are_refused(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5, 6], logprobs=LogprobRequest(input_start=3))
    harness.add("b", [5, 6], 1, logprobs=LogprobRequest(input_start=2))
    outputs = harness.run()
    assert "start at token 3 of a prompt of 2" in refused(outputs["a"])[2]
    assert outputs["b"].input_logprobs == []


def test_poolers_are_found_by_name_whatever_the_case(checkpoint: Path) -> None:
    harness = Harness(checkpoint, plugins=POOLERS)
    harness.add("named", [5, 6], pooling=PoolingRequest(pooling="MEAN"))
    harness.add("own", [5, 6], pooling=PoolingRequest())
    harness.add("unknown", [5, 6], pooling=PoolingRequest(pooling="median"))
    outputs = harness.run()
    assert outputs["named"].reason == outputs["own"].reason == "stop"
    assert [batch.pooling[0].pooling for batch in harness.worker.batches[:1] if batch.pooling and batch.pooling[0]] == [
        "mean"
    ]
    assert outputs["unknown"].embedding == []
    finish = outputs["unknown"].finish
    assert finish is not None
    assert "unknown pooling 'median' (known: last, mean)" in finish.message
    harness.assert_idle()


def test_the_second_request_of_a_living_id_is_dropped(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5, 6], 4)
    harness.add("a", [7, 8], 9)
    outputs = harness.run()
    assert outputs["a"].token_ids == expected_output([5, 6], 4, VOCAB_SIZE)


def test_a_full_queue_refuses_with_503(checkpoint: Path) -> None:
    harness = Harness(checkpoint, FakeWorker(max_running_requests=1), schedule={"max_queued_requests": 2})
    harness.add("running", [5], 20)
    harness.step()
    for rid in ("one", "two", "three"):
        harness.add(rid, [6], 2)
    outputs = harness.run()
    assert refused(outputs["three"])[:2] == (503, "overloaded")
    assert "max_queued_requests is 2" in refused(outputs["three"])[2]
    assert outputs["one"].reason == outputs["two"].reason == "length"


def test_a_full_queue_gives_way_to_higher_priority_only(checkpoint: Path) -> None:
    schedule = {"max_queued_requests": 3, "enable_priority": True, "priority_preemption_threshold": 1000}
    harness = Harness(checkpoint, FakeWorker(max_running_requests=1), schedule=schedule)
    harness.add("running", [5], 20, priority=50)
    harness.step()
    for rid, priority in (("high", 9), ("low, older", 3), ("low, newer", 3), ("equal", 3)):
        harness.add(rid, [6], 2, priority=priority)
    harness.step()
    # Nobody gives way to an equal.
    assert refused(harness.outputs["equal"])[0] == 503
    assert "low, newer" not in harness.outputs
    harness.add("higher", [6], 2, priority=4)
    harness.step()
    # Of the worst, the newest goes.
    assert refused(harness.outputs["low, newer"])[0] == 503
    harness.run()
    assert harness.finished[2:] == ["running", "high", "higher", "low, older"]


def test_the_queue_limit_never_drops_a_started_request(checkpoint: Path) -> None:
    """A retracted request goes back into a queue that is full of newcomers."""
    harness = Harness(
        checkpoint,
        FakeWorker(max_running_requests=4),
        scheduler="tests.factories.schedulers:RetractingScheduler",
        schedule={"max_queued_requests": 1, "enable_priority": True},
    )
    for i in range(3):
        harness.add(f"r{i}", [5 + i], 12)
        harness.step()
    for i in range(40):
        harness.add(f"late{i}", [6], 2, priority=100)
        harness.step()
    outputs = harness.run()
    for i in range(3):
        assert outputs[f"r{i}"].token_ids == expected_output([5 + i], 12, VOCAB_SIZE)
    assert sum(output.stats.num_retractions for output in outputs.values() if output.stats) > 0
    harness.assert_idle()


def test_low_priority_first_turns_the_order_round(checkpoint: Path) -> None:
    schedule = {"enable_priority": True, "low_priority_first": True}
    harness = Harness(checkpoint, FakeWorker(max_running_requests=1), schedule=schedule)
    harness.add("running", [5], 4, priority=0)
    harness.step()
    harness.add("nine", [6], 2, priority=9)
    harness.add("three", [6], 2, priority=3)
    harness.run()
    assert harness.finished == ["running", "three", "nine"]
