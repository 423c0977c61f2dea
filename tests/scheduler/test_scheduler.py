"""The loops: what is launched when, what is read when, and what blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hookline.batch.forward_mode import ForwardMode
from hookline.messages.control import ControlRequest
from hookline.messages.requests import LogprobRequest, PoolingRequest, TokenizedRequest
from hookline.messages.transport import LocalChannel
from hookline.sampling_params import SamplingParams
from hookline.scheduler.factory import build_scheduler
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.plans import chosen, make_plan
from hookline.testkit.scheduling import EOS, VOCAB_SIZE, Harness, tokens_of
from tests.factories.fake_grammar import FAKE_GRAMMAR


def test_one_request_gives_the_tokens_of_the_model(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5, 6, 7], 12)
    outputs = harness.run()
    assert outputs["a"].token_ids == expected_output([5, 6, 7], 12, VOCAB_SIZE)
    assert outputs["a"].reason == "length"
    harness.assert_idle()


def test_overlap_launches_the_next_pass_before_the_last_is_read(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5, 6, 7], 4)
    harness.run()
    assert harness.worker.events == [
        ("launch", 1),
        ("launch", 2),
        ("read", 1),
        ("launch", 3),
        ("read", 2),
        ("launch", 4),
        ("read", 3),
        ("read", 4),
    ]


def test_the_normal_loop_reads_each_pass_before_the_next_is_launched(checkpoint: Path) -> None:
    harness = Harness(checkpoint, overlap=False)
    harness.add("a", [5, 6, 7], 3)
    harness.run()
    steps = [1, 2, 3]
    assert harness.worker.events == [event for step in steps for event in (("launch", step), ("read", step))]


def test_the_extra_token_of_a_finished_request_is_discarded(checkpoint: Path) -> None:
    prompt = _prompt_that_stops(after=5)
    expected = expected_output(prompt, 50, VOCAB_SIZE, ends=(EOS,))
    harness = Harness(checkpoint)
    harness.add("a", prompt, 50, ignore_eos=False)
    outputs = harness.run()
    assert outputs["a"].token_ids == expected
    assert outputs["a"].finish is not None
    assert (outputs["a"].reason, outputs["a"].finish.matched) == ("stop", EOS)
    # One pass was launched for the token after the end before the end was known.
    assert len(harness.worker.batches) == len(expected) + 1
    harness.assert_idle()


def test_no_pass_is_launched_beyond_the_allowed_length(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("one", [5, 6, 7], 1)
    harness.add("two", [8, 9], 2)
    harness.add("six", [10], 6)
    harness.run()
    assert [batch.rids for batch in harness.worker.batches] == [["one", "two", "six"], ["two", "six"], *[["six"]] * 4]
    harness.assert_idle()


def test_a_constrained_pass_is_sampled_when_the_tokens_before_it_are_known(checkpoint: Path) -> None:
    harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR])
    harness.add("a", [5, 6], 10, regex="20|21 30|31 40|41", ignore_eos=False)
    harness.add("free", [7, 8], 6)
    outputs = harness.run()
    events = harness.worker.events
    sampled = [step for event, step in events if event == "sample"]
    # Three tokens, the end, and one in vain: the end was not known yet when its pass was launched.
    assert len(sampled) == 5
    for step in sampled:
        assert ("read", step - 1) not in events[events.index(("sample", step)) :]
    # The forward of the grammar's second pass was launched before the token that decides its mask was read.
    assert events.index(("launch", sampled[1])) < events.index(("read", sampled[0]))
    tokens = outputs["a"].token_ids
    assert tokens[0] in (20, 21)
    assert tokens[1] in (30, 31)
    assert tokens[2] in (40, 41)
    assert tokens[3:] == [EOS]
    assert outputs["free"].token_ids == expected_output([7, 8], 6, VOCAB_SIZE)
    harness.assert_idle()


def test_grammars_give_the_same_output_with_and_without_overlap(checkpoint: Path) -> None:
    def run(overlap: bool) -> dict[str, list[int]]:
        harness = Harness(checkpoint, overlap=overlap, plugins=[FAKE_GRAMMAR], chunk=3)
        for i in range(3):
            harness.add(f"bound{i}", [5 + i] * 7, 10, regex="20|21|22 30|31 40|41|42", ignore_eos=i == 1)
            harness.add(f"free{i}", [9, i], 9 + i)
        outputs = tokens_of(harness.run())
        harness.assert_idle()
        return outputs

    overlapped = run(overlap=True)
    assert overlapped == run(overlap=False)
    # ignore_eos does not keep a finished grammar going.
    assert all(len(overlapped[f"bound{i}"]) == 4 for i in range(3))


def test_everything_at_once_in_one_step(checkpoint: Path) -> None:
    """A pass in flight in which one request ends, while one is aborted and one is retracted."""
    worker = FakeWorker(max_total_tokens=40)
    harness = Harness(checkpoint, worker, schedule={"schedule_conservativeness": 0.01})
    stops = _prompt_that_stops(after=6)
    harness.add("stops", stops, 30, ignore_eos=False)
    harness.add("long", [4] * 8, 25)
    harness.add("aborted", [6] * 8, 25)
    harness.run_until(lambda: len(worker.batches) == 6)
    harness.abort("aborted")
    outputs = harness.run()
    assert outputs["stops"].token_ids == expected_output(stops, 30, VOCAB_SIZE, ends=(EOS,))
    assert outputs["long"].token_ids == expected_output([4] * 8, 25, VOCAB_SIZE)
    assert outputs["aborted"].reason == "abort"
    harness.assert_idle()


@pytest.mark.parametrize("overlap", [True, False])
def test_a_batch_of_prefill_only_requests_never_decodes(checkpoint: Path, overlap: bool) -> None:
    poolers = [chosen("poolers", "last", "x:y")]
    harness = Harness(checkpoint, overlap=overlap, chunk=16, plugins=poolers)
    harness.add("score", range(40), 0, logprobs=LogprobRequest(input_start=38))
    harness.add("vector", range(50, 70), pooling=PoolingRequest())
    harness.add("nothing", [5], 0)
    outputs = harness.run()
    assert all(batch.mode is ForwardMode.EXTEND and not any(batch.samples) for batch in harness.worker.batches)
    assert [entry.token_id for entry in outputs["score"].input_logprobs or []] == [38, 39]
    assert (outputs["score"].reason, outputs["nothing"].reason, outputs["vector"].reason) == (
        "length",
        "length",
        "stop",
    )
    assert outputs["vector"].embedding
    harness.assert_idle()


def test_step_says_whether_work_is_left(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    assert not harness.step()
    harness.add("a", [5], 2)
    assert harness.step()
    harness.run()
    assert not harness.step()


def test_run_blocks_while_idle_and_ends_on_shutdown(checkpoint: Path) -> None:
    """The receiver sees how long the loop is willing to wait."""
    waits: list[float | None] = []
    request = TokenizedRequest(
        rid="a", input_ids=[5, 6], sampling_params=SamplingParams(max_new_tokens=3, ignore_eos=True)
    )

    class Receiver:
        def __init__(self) -> None:
            self.messages: list[Any] = [request, ControlRequest(id=1, method="shutdown")]

        def receive(self, timeout: float | None = 0.0) -> list[Any]:
            waits.append(timeout)
            # Only a call that would block may have the next message: the loop has run dry by then.
            return [self.messages.pop(0)] if timeout is None else []

    plugins = [
        chosen("schedulers", "default", "hookline_schedulers.default:DefaultScheduler"),
        chosen("schedule_policies", "fcfs", "hookline_schedulers.fcfs:FcfsPolicy"),
    ]
    plan = make_plan(checkpoint, config={"schedule": {"chunked_prefill_size": None}}, plugins=plugins)
    outbox: LocalChannel[Any] = LocalChannel()
    build_scheduler(plan, FakeWorker(), Receiver(), outbox).run()
    assert waits[0] is None
    assert waits[-1] is None
    assert set(waits[1:-1]) == {0.0}
    reasons = [message.finish_reasons for message in outbox.receive() if hasattr(message, "finish_reasons")]
    assert reasons[-1][0].type == "length"


def test_a_failing_worker_ends_the_loop(checkpoint: Path) -> None:
    worker = FakeWorker()

    def fail(batch: object) -> None:
        raise RuntimeError("out of memory")

    worker.on_launch = fail
    harness = Harness(checkpoint, worker)
    harness.add("a", [5])
    with pytest.raises(RuntimeError, match="out of memory"):
        harness.step()


def _prompt_that_stops(after: int) -> list[int]:
    """A prompt whose output has its end-of-sequence token at exactly this place."""
    for first in range(3, VOCAB_SIZE):
        for second in range(3, VOCAB_SIZE):
            output = expected_output([first, second], after + 1, VOCAB_SIZE)
            if EOS in output and output.index(EOS) == after:
                return [first, second]
    raise AssertionError("there is none")
