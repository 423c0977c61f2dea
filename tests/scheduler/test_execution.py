"""Plans that cannot be carried out are refused with the scheduler's name; the others are carried out exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.batch.forward_mode import ForwardMode
from hookline.errors import PluginError
from hookline.interfaces.scheduling import PrefillItem, Rejection, SchedulerEnv, StepPlan
from hookline.messages.requests import LogprobRequest
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.fake_worker import FakeWorker
from hookline.testkit.plans import chosen
from hookline.testkit.scheduling import VOCAB_SIZE, Harness
from tests.factories import schedulers

SCRIPTED = "tests.factories.schedulers:ScriptedScheduler"
IDLE = "tests.factories.schedulers:IdleScheduler"


def item(rid: str, num_tokens: int) -> PrefillItem:
    return PrefillItem(rid=rid, num_tokens=num_tokens)


def scripted(
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    *plans: StepPlan | Exception,
    slots: int = 32,
    rows: int = 3,
    page_size: int = 1,
    overlap: bool = False,
    attention: frozenset[str] = frozenset({"mixed"}),
) -> Harness:
    """A scheduler that makes these plans, with requests a and b (8 tokens each) and c (30 tokens) waiting."""

    def start(self: schedulers.ScriptedScheduler, env: SchedulerEnv) -> None:
        self.plans = list(plans)

    monkeypatch.setattr(schedulers.ScriptedScheduler, "__init__", start)
    worker = FakeWorker(max_total_tokens=slots, max_running_requests=rows, page_size=page_size)
    backend = chosen("attention_backends", "plain", "tests:nothing", features=sorted(attention))
    harness = Harness(checkpoint, worker, scheduler=SCRIPTED, overlap=overlap, plugins=[backend])
    harness.add("a", range(8), 6)
    harness.add("b", range(20, 28), 6)
    harness.add("c", range(40, 70), 2)
    return harness


START_A = StepPlan(prefill=[item("a", 8)])
CHUNK_A = StepPlan(prefill=[item("a", 3)])

REFUSED: dict[str, tuple[list[StepPlan | Exception], str]] = {
    "an unknown request": ([StepPlan(prefill=[item("z", 1)])], "'z' is not here"),
    "a prefill of a running request": ([START_A, START_A], "prefills request 'a', which is running"),
    "a retraction of a waiting request": ([StepPlan(retract=["a"])], "retracts request 'a', which is waiting"),
    "a rejection of a running request": (
        [START_A, StepPlan(reject=[Rejection(rid="a", message="no")])],
        "rejects request 'a', which is running",
    ),
    "a request twice": ([StepPlan(prefill=[item("a", 8), item("a", 8)])], "'a' is named twice"),
    "a retraction and a prefill": (
        [CHUNK_A, StepPlan(retract=["a"], prefill=[item("a", 5)])],
        "'a' is named twice",
    ),
    "more tokens than are left": ([StepPlan(prefill=[item("a", 9)])], "9 tokens of the 8 that are left"),
    "more tokens than the chunk left": ([CHUNK_A, StepPlan(prefill=[item("a", 6)])], "6 tokens of the 5 that are left"),
    "no tokens": ([StepPlan(prefill=[item("a", 0)])], "0 tokens of the 8 that are left"),
    "two chunked requests": (
        [StepPlan(prefill=[item("a", 3), item("b", 3)])],
        "'a' and 'b' would both be in the middle of their prompts",
    ),
    "a second chunked request": ([CHUNK_A, StepPlan(prefill=[item("b", 3)])], "'a' and 'b' would both be"),
    "more slots than there are": (
        [StepPlan(prefill=[item("a", 8), item("c", 30)])],
        "needs 38 slots, but 32 can be had",
    ),
    "a decode without slots": (
        [StepPlan(prefill=[item("c", 30)]), StepPlan(prefill=[item("a", 2)], decode=True)],
        "needs 3 slots, but 2 can be had",
    ),
    "an exception": ([ValueError("no idea")], "failed: ValueError: no idea"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_plan_is_refused_by_name(case: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans, message = REFUSED[case]
    harness = scripted(checkpoint, monkeypatch, *plans)
    for _ in plans[1:]:
        harness.step()
    with pytest.raises(PluginError, match="scheduler 'under-test' of tests ") as refusal:
        harness.step()
    assert message in str(refusal.value)


def test_more_requests_than_rows_are_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = scripted(checkpoint, monkeypatch, StepPlan(prefill=[item("a", 8), item("b", 8)]), rows=1)
    with pytest.raises(PluginError, match="2 requests start, but 1 rows are free"):
        harness.step()


def test_a_scheduler_that_never_plans_is_found_out(checkpoint: Path) -> None:
    harness = Harness(checkpoint, scheduler=IDLE, check=False)
    harness.add("a", [5])
    with pytest.raises(PluginError, match="scheduler 'under-test' of tests plans nothing although 1 requests"):
        harness.run(5000)


def test_retract_reject_and_prefill_happen_in_this_order(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = StepPlan(
        retract=["a"],
        reject=[Rejection(rid="c", message="too long")],
        prefill=[item("b", 8)],
        decode=True,
    )
    rest = [StepPlan(decode=True)] * 5
    again = [StepPlan(prefill=[item("a", 1)]), *[StepPlan(decode=True)] * 5]
    harness = scripted(checkpoint, monkeypatch, START_A, swap, *rest, *again)
    outputs = harness.run()
    assert outputs["a"].token_ids == expected_output(range(8), 6, VOCAB_SIZE)
    assert outputs["b"].token_ids == expected_output(range(20, 28), 6, VOCAB_SIZE)
    assert outputs["a"].stats is not None
    assert outputs["a"].stats.num_retractions == 1
    finish = outputs["c"].finish
    assert finish is not None
    assert (finish.type, finish.status_code, finish.message) == ("abort", 400, "too long")
    harness.assert_idle()


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("page_size", [1, 4])
def test_a_prefix_that_another_caches_meanwhile_replaces_that_of_a_chunked_request(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, page_size: int, overlap: bool
) -> None:
    """c computes ten tokens, d all thirty of the same prompt, and then c its last twenty as well."""
    plans = [
        StepPlan(prefill=[item("c", 10)]),
        StepPlan(prefill=[item("d", 30 - 10 // page_size * page_size)]),
        StepPlan(prefill=[item("c", 20)]),
        *[StepPlan(decode=True)] * 2,
    ]
    harness = scripted(checkpoint, monkeypatch, *plans, slots=128, page_size=page_size, overlap=overlap)
    harness.abort("a", "b")
    harness.add("d", range(40, 70), 3)
    harness.run_until(lambda: len(harness.worker.batches) == 3)
    state = harness.state
    # One copy is left: 30 tokens in whole pages, and what each request has beyond them.
    cached = 30 // page_size * page_size
    own = -(-30 // page_size) * page_size - cached
    assert state["protected_slots"] == cached
    assert state["total_tokens"] - state["free_slots"] == cached + 2 * own
    outputs = harness.run()
    assert outputs["c"].token_ids == outputs["d"].token_ids[:2] == expected_output(range(40, 70), 2, VOCAB_SIZE)
    harness.assert_idle()


def test_a_mixed_pass_extends_first_and_decodes_after(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = StepPlan(prefill=[item("b", 3)], decode=True)
    harness = scripted(checkpoint, monkeypatch, START_A, mixed)
    harness.step()
    harness.step()
    batch = harness.worker.batches[1]
    assert batch.mode is ForwardMode.MIXED
    assert batch.rids == ["b", "a"]
    assert (batch.seq_lens - batch.prefix_lens).tolist() == [3, 1]
    assert batch.samples == [False, True]
    assert batch.future_index.tolist() == [3]
    assert batch.future_rows.tolist() == batch.req_pool_indices[1:].tolist()


def test_a_chunked_request_keeps_its_row(checkpoint: Path) -> None:
    harness = Harness(checkpoint, chunk=4)
    harness.add("a", range(10), 2)
    harness.run()
    batches = [batch for batch in harness.worker.batches if batch.mode is ForwardMode.EXTEND]
    assert [batch.seq_lens.tolist() for batch in batches] == [[4], [8], [10]]
    assert len({batch.req_pool_indices[0] for batch in batches}) == 1
    assert [len(batch.new_rows) for batch in batches] == [1, 0, 0]
    assert [batch.samples for batch in batches] == [[False], [False], [True]]


def test_a_restarted_request_brings_its_output_to_the_sampler(checkpoint: Path) -> None:
    """Penalties and seeds are set up anew from prompt and output, so retraction loses nothing."""
    harness = Harness(checkpoint, scheduler="tests.factories.schedulers:RetractingScheduler", overlap=False)
    harness.add("a", [5, 6, 7], 9, min_new_tokens=2, stop_token_ids=[96])
    outputs = harness.run()
    starts = [row for batch in harness.worker.batches for row in batch.new_rows]
    assert len(starts) > 1
    for start in starts:
        assert start.prompt_ids == (5, 6, 7)
        assert start.output_ids == tuple(outputs["a"].token_ids[: len(start.output_ids)])
        assert start.end_token_ids == (96,)
    assert len(starts[-1].output_ids) > 0


def test_prompt_logprob_targets_follow_the_chunks(checkpoint: Path) -> None:
    harness = Harness(checkpoint, chunk=4)
    harness.add("a", range(10, 20), 1, logprobs=LogprobRequest(output=False, input_start=6))
    harness.run()
    specs = [batch.logprobs[0] if batch.logprobs else None for batch in harness.worker.batches]
    # Token 6 is told by the state of token 5, which the second chunk computes.
    assert specs[0] is None
    assert specs[1] is not None
    assert (specs[1].input_start, specs[1].input_targets) == (1, (16, 17, 18))
    assert specs[2] is not None
    assert (specs[2].input_start, specs[2].input_targets, specs[2].output) == (0, (19,), False)
    logprobs = harness.outputs["a"].input_logprobs
    assert logprobs is not None
    assert [entry.token_id for entry in logprobs] == [16, 17, 18, 19]


def test_a_mixed_pass_needs_a_backend_that_mixes(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [START_A, StepPlan(prefill=[item("b", 8)], decode=True)]
    harness = scripted(checkpoint, monkeypatch, *plans, attention=frozenset())
    with pytest.raises(PluginError, match="prefills and decodes in one pass"):
        harness.run()
