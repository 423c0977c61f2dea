"""What is sent, when, and in which columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.messages.outputs import BatchEmbeddingOutput, BatchTokenOutput
from hookline.messages.requests import LogprobRequest, PoolingRequest
from hookline.testkit.fake_tokens import expected_output, next_hash, start_hash, token_logprob
from hookline.testkit.plans import chosen
from hookline.testkit.scheduling import VOCAB_SIZE, Harness

POOLERS = [chosen("poolers", "last", "x:y")]


@pytest.mark.parametrize(("interval", "pieces"), [(None, [1] * 10), (1, [1] * 10), (4, [1, 4, 4, 1]), (100, [1, 9])])
def test_a_stream_sends_its_first_token_at_once_and_then_at_its_interval(
    checkpoint: Path, interval: int | None, pieces: list[int]
) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5], 10, stream_interval=interval)
    assert harness.run()["a"].pieces == pieces


def test_the_servers_interval_holds_where_a_request_has_none(checkpoint: Path) -> None:
    harness = Harness(checkpoint, config={"output": {"stream_interval": 3}})
    harness.add("a", [5], 8)
    harness.add("b", [5], 8, stream_interval=2)
    outputs = harness.run()
    assert outputs["a"].pieces == [1, 3, 3, 1]
    assert outputs["b"].pieces == [1, 2, 2, 2, 1]


def test_what_does_not_stream_is_sent_at_its_end(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5], 70, stream=False)
    assert harness.run()["a"].pieces == [70]


def test_a_step_sends_one_message_for_all(checkpoint: Path) -> None:
    harness = Harness(checkpoint, overlap=False)
    for i in range(3):
        harness.add(f"r{i}", [5 + i], 4)
    harness.scheduler.step()
    messages = [message for message in harness.outbox.receive() if isinstance(message, BatchTokenOutput)]
    assert len(messages) == 1
    assert messages[0].rids == ["r0", "r1", "r2"]
    assert [start.rid for start in messages[0].starts] == ["r0", "r1", "r2"]
    # Nobody asked for log-probabilities: their columns stay empty.
    assert messages[0].output_logprobs == messages[0].input_logprobs == []


def test_the_detokenizer_is_told_how_the_text_is_made(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", range(20), 2, stop=["zz"], skip_special_tokens=False, no_stop_trim=True)
    start = harness.run()["a"].start
    assert start is not None
    assert start.prompt_tail == list(range(12, 20))
    assert (start.stop, start.skip_special_tokens, start.no_stop_trim) == (("zz",), False, True)


def test_log_probabilities_follow_their_tokens(checkpoint: Path) -> None:
    prompt = [5, 6, 7]
    harness = Harness(checkpoint)
    harness.add("a", prompt, 5, stream_interval=2, logprobs=LogprobRequest(top=2, token_ids=(9,), input_start=0))
    harness.add("plain", prompt, 5)
    outputs = harness.run()
    state = start_hash()
    told = outputs["a"].input_logprobs
    assert told is not None
    for i, token in enumerate(prompt):
        assert told[i].token_id == token
        assert told[i].logprob == (None if i == 0 else token_logprob(state, token))
        state = next_hash(state, token)
    tokens = expected_output(prompt, 5, VOCAB_SIZE)
    assert [entry.token_id for entry in outputs["a"].logprobs] == tokens
    for entry, token in zip(outputs["a"].logprobs, tokens, strict=True):
        assert entry.logprob == token_logprob(state, token)
        assert len(entry.top) == 2
        assert entry.chosen == [(9, token_logprob(state, 9))]
        state = next_hash(state, token)
    assert outputs["plain"].logprobs == []
    assert outputs["plain"].input_logprobs is None


def test_vectors_and_tokens_of_one_step_go_in_their_own_messages(checkpoint: Path) -> None:
    harness = Harness(checkpoint, overlap=False, plugins=POOLERS)
    harness.add("vector", [5, 6], pooling=PoolingRequest())
    harness.add("text", [5, 6], 1)
    harness.scheduler.step()
    kinds = [type(message) for message in harness.outbox.receive()]
    assert kinds[:2] == [BatchTokenOutput, BatchEmbeddingOutput]


def test_usage_counts_cached_tokens_of_the_first_start_only(checkpoint: Path) -> None:
    harness = Harness(checkpoint, scheduler="tests.factories.schedulers:RetractingScheduler")
    harness.add("first", range(40), 10)
    harness.run()
    harness.add("second", range(40), 10)
    outputs = harness.run()
    first, second = outputs["first"].stats, outputs["second"].stats
    assert first is not None
    assert second is not None
    assert (first.prompt_tokens, first.cached_tokens, first.completion_tokens) == (40, 0, 10)
    assert (second.prompt_tokens, second.cached_tokens, second.completion_tokens) == (40, 39, 10)
    assert first.num_retractions > 0


def test_a_reply_is_reused_in_the_next_turn(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("turn 1", range(40), 10)
    reply = harness.run()["turn 1"].token_ids
    harness.add("turn 2", [*range(40), *reply, 8, 9], 3)
    stats = harness.run()["turn 2"].stats
    assert stats is not None
    assert stats.cached_tokens == 49


def test_prefixes_are_shared_within_a_salt_only(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    for rid, salt in (("mine", "x"), ("mine again", "x"), ("theirs", "y"), ("plain", "")):
        harness.add(rid, range(40), 3, salt=salt)
        harness.run()
    cached = {rid: output.stats.cached_tokens for rid, output in harness.outputs.items() if output.stats}
    assert cached == {"mine": 0, "mine again": 39, "theirs": 0, "plain": 0}


def test_the_time_in_the_queue_is_told(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("old", [5], 2, received_at=1.0)
    harness.add("unknown", [5], 2)
    outputs = harness.run()
    assert outputs["old"].stats is not None
    assert outputs["old"].stats.queue_time > 1e9
    assert outputs["unknown"].stats is not None
    assert outputs["unknown"].stats.queue_time == 0
