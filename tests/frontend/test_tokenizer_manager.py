"""TokenizerManager against a scheduler made of lists: streams, aborts, limits, deaths, control."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.errors import EngineDeadError, OverloadedError, RequestError
from hookline.frontend.engine_state import EngineState
from hookline.frontend.request_builder import RequestBuilder
from hookline.frontend.tokenizer_manager import TokenizerManager
from hookline.interfaces.api import Chunk, GenerateRequest
from hookline.messages.control import ControlReply, ControlRequest, SchedulerStats
from hookline.messages.outputs import (
    BatchEmbeddingOutput,
    BatchTextOutput,
    FinishReason,
    RequestStats,
    TokenLogprob,
)
from hookline.messages.requests import AbortReq, PoolingRequest, TokenizedRequest
from hookline.observability.metrics import Metrics
from hookline.sampling_params import SamplingParams
from hookline.testkit.plans import chosen, make_plan
from hookline.text.tokenizer import Tokenizer
from tests.factories.frontend import save_frontend_checkpoint

_STOP = FinishReason(type="stop", matched=2)
_ABORT = FinishReason(type="abort", message="aborted", status_code=499, code="aborted")
_PLUGINS = [chosen("poolers", "last", "none:none")]


class Scheduler:
    """The other side of the wire: keeps what was sent, answers when told to."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.refuses_after: int | None = None
        self.answer: Callable[[Any], None] = lambda message: None

    def send(self, message: Any) -> None:
        if self.refuses_after is not None and len(self.sent) >= self.refuses_after:
            raise OverloadedError("the engine is far behind")
        self.sent.append(message)
        self.answer(message)

    @property
    def rids(self) -> list[str]:
        return [message.rid for message in self.sent if isinstance(message, TokenizedRequest)]

    @property
    def aborted(self) -> list[str]:
        return [rid for message in self.sent if isinstance(message, AbortReq) for rid in message.rids]


class Setup:
    """A ready manager and its scheduler."""

    def __init__(self, checkpoint: Path, tokenizer: Tokenizer, **limits: Any) -> None:
        self.now = 0.0
        self.scheduler = Scheduler()
        self.state = EngineState(health_timeout=60.0, clock=lambda: self.now)
        self.state.ready()
        self.metrics = Metrics()
        self.manager = TokenizerManager(
            RequestBuilder(make_plan(checkpoint, plugins=_PLUGINS), tokenizer),
            self.scheduler,
            state=self.state,
            metrics=self.metrics,
            max_concurrent_requests=limits.pop("max_concurrent_requests", 100),
            **limits,
        )

    def emit(self, *items: tuple[str, list[int], FinishReason | None], texts: bool = True) -> None:
        """One message of the detokenizer: (rid, new ids, end) each; texts spell the ids."""
        self.manager.handle(
            BatchTextOutput(
                rids=[rid for rid, _, _ in items],
                texts=["".join(f"{token}." for token in ids) for _, ids, _ in items],
                token_ids=[ids for _, ids, _ in items],
                finish_reasons=[end for _, _, end in items],
                stats=[RequestStats(3, 1, len(ids), 0, 0.25) for _, ids, _ in items],
            )
        )

    def metric(self, name: str) -> float:
        """The value of a metric's line."""
        text = self.metrics.exposition()[0].decode()
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    def is_clean(self) -> bool:
        """Whether no request has left state behind."""
        return not (self.manager.num_in_flight or self.manager.num_open_choices or self.manager._requests)


@pytest.fixture
def setup(checkpoint: Path, tokenizer: Tokenizer) -> Setup:
    return Setup(checkpoint, tokenizer)


def _request(rid: str | None = None, *, stream: bool = True, n: int = 1, **fields: Any) -> GenerateRequest:
    return GenerateRequest(input_ids=[1, 2, 3], sampling_params=SamplingParams(n=n), stream=stream, rid=rid, **fields)


async def _collect(setup: Setup, request: GenerateRequest) -> list[Chunk]:
    return [chunk async for chunk in setup.manager.generate(request)]


async def _settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_stream_gives_each_step(setup: Setup) -> None:
    stream = setup.manager.generate(_request("a"))
    first = asyncio.ensure_future(anext(stream))
    await _settle()
    setup.emit(("a", [7], None))
    assert (await first).text == "7."
    second = asyncio.ensure_future(anext(stream))
    await _settle()
    setup.emit(("a", [8, 9], _STOP))
    chunk = await second
    assert (chunk.text, chunk.token_ids, chunk.finish_reason) == ("8.9.", [8, 9], _STOP)
    assert chunk.stats.prompt_tokens == 3
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert setup.is_clean()


async def test_without_stream_there_is_one_chunk(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a", stream=False)))
    await _settle()
    for token in range(5):
        setup.emit(("a", [token], None))
        await _settle()
    setup.emit(("a", [], _STOP))
    (chunk,) = await task
    assert (chunk.text, chunk.token_ids) == ("0.1.2.3.4.", [0, 1, 2, 3, 4])
    assert setup.is_clean()


async def test_choices_come_with_their_index_and_end_separately(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a", stream=False, n=3)))
    await _settle()
    assert setup.scheduler.rids == ["a#0", "a#1", "a#2"]
    setup.emit(("a#2", [5], _STOP))
    await _settle()
    setup.emit(("a#0", [6], _STOP), ("a#1", [7], _STOP))
    chunks = await task
    assert [(chunk.rid, chunk.index, chunk.text) for chunk in chunks] == [
        ("a#2", 2, "5."),
        ("a#0", 0, "6."),
        ("a#1", 1, "7."),
    ]
    assert setup.is_clean()


@settings(max_examples=60, deadline=None)
@given(plan=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.booleans()), min_size=1, max_size=30))
async def test_slow_reader_gets_every_token_once(
    plan: list[tuple[int, int, bool]], checkpoint: Path, tokenizer: Tokenizer
) -> None:
    """Steps of two choices come while the reader sometimes looks and sometimes does not."""
    setup = Setup(checkpoint, tokenizer)
    expected: dict[int, list[int]] = {0: [], 1: []}
    got: dict[int, list[int]] = {0: [], 1: []}
    texts = {0: "", 1: ""}
    may_read = asyncio.Event()

    async def read() -> None:
        async for chunk in setup.manager.generate(_request("a", n=2)):
            got[chunk.index] += chunk.token_ids
            texts[chunk.index] += chunk.text
            await may_read.wait()

    task = asyncio.create_task(read())
    await _settle()
    token = 0
    for choice, count, reads in plan:
        ids = list(range(token, token + count))
        token += count
        expected[choice] += ids
        setup.emit((f"a#{choice}", ids, None))
        if reads:
            may_read.set()
            await _settle()
            may_read.clear()
    setup.emit(("a#0", [], _STOP), ("a#1", [], _STOP))
    may_read.set()
    await task
    assert got == expected
    assert texts == {index: "".join(f"{token}." for token in ids) for index, ids in expected.items()}
    assert setup.is_clean()


async def test_logprobs_are_joined_for_a_slow_reader(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a", stream=False)))
    await _settle()
    for token in (4, 5):
        setup.manager.handle(
            BatchTextOutput(
                rids=["a"],
                texts=["x"],
                token_ids=[[token]],
                finish_reasons=[_STOP if token == 5 else None],
                stats=[RequestStats(1, 0, 1)],
                output_logprobs=[[TokenLogprob(-0.5, token)]],
                input_logprobs=[[TokenLogprob(None, 1)]] if token == 4 else [],
            )
        )
    (chunk,) = await task
    assert chunk.output_logprobs == [TokenLogprob(-0.5, 4), TokenLogprob(-0.5, 5)]
    assert chunk.input_logprobs == [TokenLogprob(None, 1)]


async def test_embedding_arrives(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a", stream=False, pooling=PoolingRequest())))
    await _settle()
    setup.manager.handle(
        BatchEmbeddingOutput(
            rids=["a", "stranger"],
            embeddings=[[0.5, 1.0], []],
            finish_reasons=[_STOP, _STOP],
            stats=[RequestStats(3, 0, 0), RequestStats(3, 0, 0)],
        )
    )
    (chunk,) = await task
    assert chunk.embedding == [0.5, 1.0]
    assert setup.is_clean()


# --- leaving early ---


@pytest.mark.parametrize("n", [1, 3])
async def test_closing_the_stream_aborts_every_open_choice(setup: Setup, n: int) -> None:
    stream = setup.manager.generate(_request("a", n=n))
    first = asyncio.ensure_future(anext(stream))
    await _settle()
    rids = setup.scheduler.rids
    setup.emit((rids[0], [1], _STOP if n == 3 else None))
    await first
    await stream.aclose()
    still_open = rids[1:] if n == 3 else rids
    assert setup.scheduler.aborted == still_open
    assert setup.manager.num_in_flight == 0
    setup.emit(*((rid, [], _ABORT) for rid in still_open))
    assert setup.is_clean()


async def test_cancelled_reader_aborts_its_request(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a", n=2)))
    await _settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert setup.scheduler.aborted == ["a#0", "a#1"]
    setup.emit(("a#0", [4], None), ("a#1", [], _ABORT))
    setup.emit(("a#0", [], _ABORT))
    assert setup.is_clean()


async def test_finished_request_is_not_aborted(setup: Setup) -> None:
    async with aclosing(setup.manager.generate(_request("a"))) as stream:
        first = asyncio.ensure_future(anext(stream))
        await _settle()
        setup.emit(("a", [1], _STOP))
        await first
    assert setup.scheduler.aborted == []
    assert setup.is_clean()


async def test_unused_iterator_sends_nothing(setup: Setup) -> None:
    stream = setup.manager.generate(_request("a"))
    await stream.aclose()
    assert setup.scheduler.sent == []
    assert setup.is_clean()


async def test_cancelled_while_tokenizing_sends_nothing(setup: Setup) -> None:
    long = GenerateRequest(prompt="to be " * 5000, sampling_params=SamplingParams())
    task = asyncio.create_task(_collect(setup, long))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert setup.scheduler.sent == []
    assert setup.is_clean()


async def test_explicit_abort_ends_the_stream_with_the_schedulers_word(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a", n=2)))
    await _settle()
    setup.emit(("a#0", [1], _STOP))
    assert setup.manager.abort("a") == 1
    assert setup.scheduler.aborted == ["a#1"]
    setup.emit(("a#1", [9], _ABORT))
    chunks = await task
    assert [chunk.finish_reason for chunk in chunks] == [_STOP, _ABORT]
    assert setup.is_clean()


async def test_abort_matches_whole_ids_only(setup: Setup) -> None:
    tasks = [asyncio.create_task(_collect(setup, _request(rid))) for rid in ("r1", "r10", "r")]
    await _settle()
    assert setup.manager.abort("r1") == 1
    assert setup.manager.abort("unknown") == 0
    assert setup.manager.abort(None) == 0
    assert setup.scheduler.aborted == ["r1"]
    assert setup.manager.abort(None, all_requests=True) == 3
    setup.emit(*((rid, [], _ABORT) for rid in ("r1", "r10", "r")))
    await asyncio.gather(*tasks)
    assert setup.is_clean()


async def test_id_in_use_is_refused_until_the_scheduler_let_go(setup: Setup) -> None:
    stream = setup.manager.generate(_request("a"))
    first = asyncio.ensure_future(anext(stream))
    await _settle()
    with pytest.raises(RequestError, match="'a' is in use"):
        await _collect(setup, _request("a"))
    setup.emit(("a", [1], None))
    await first
    await stream.aclose()
    with pytest.raises(RequestError, match="'a' is in use"):
        await _collect(setup, _request("a"))
    # The late end of the first request must not reach the second one.
    setup.emit(("a", [2], _ABORT))
    task = asyncio.create_task(_collect(setup, _request("a", stream=False)))
    await _settle()
    setup.emit(("a", [3], _STOP))
    assert [chunk.token_ids for chunk in await task] == [[3]]
    assert setup.is_clean()


async def test_ids_of_choices_do_not_collide(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a", n=2)))
    await _settle()
    with pytest.raises(RequestError, match="'a#1' is in use"):
        await _collect(setup, _request("a#1"))
    setup.emit(("a#0", [], _STOP), ("a#1", [], _STOP))
    await task
    assert setup.is_clean()


async def test_output_of_unknown_requests_is_ignored(setup: Setup) -> None:
    setup.emit(("nobody", [1], _STOP))
    assert setup.is_clean()


# --- refusals ---


async def test_invalid_request_fails_alone(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("good")))
    await _settle()
    bad = GenerateRequest(input_ids=[10**9], sampling_params=SamplingParams())
    with pytest.raises(RequestError, match="token ids"):
        await _collect(setup, bad)
    setup.emit(("good", [1], _STOP))
    assert len(await task) == 1
    assert setup.metric('hookline_requests_total{finish_reason="error"}') == 1
    assert setup.is_clean()


async def test_too_many_requests_are_refused_with_503(checkpoint: Path, tokenizer: Tokenizer) -> None:
    setup = Setup(checkpoint, tokenizer, max_concurrent_requests=2)
    tasks = [asyncio.create_task(_collect(setup, _request(rid))) for rid in ("a", "b")]
    await _settle()
    with pytest.raises(OverloadedError, match="max_concurrent_requests") as caught:
        await _collect(setup, _request("c"))
    assert caught.value.status_code == 503
    setup.emit(("a", [], _STOP))
    await tasks[0]
    third = asyncio.create_task(_collect(setup, _request("c")))
    await _settle()
    setup.emit(("b", [], _STOP), ("c", [], _STOP))
    await asyncio.gather(tasks[1], third)
    assert setup.is_clean()


async def test_full_channel_refuses_and_leaves_nothing(setup: Setup) -> None:
    setup.scheduler.refuses_after = 1
    with pytest.raises(OverloadedError):
        await _collect(setup, _request("a", n=3))
    # The one choice that was sent could not even be aborted; it is dropped at its end.
    assert setup.manager.num_in_flight == 0
    assert setup.manager.num_open_choices == 1
    setup.emit(("a#0", [1], _STOP))
    assert setup.is_clean()


async def test_starting_and_draining_servers_refuse(checkpoint: Path, tokenizer: Tokenizer) -> None:
    setup = Setup(checkpoint, tokenizer)
    setup.state.draining()
    with pytest.raises(OverloadedError, match="shutting down") as caught:
        await _collect(setup, _request())
    assert caught.value.code == "draining"
    fresh = EngineState(health_timeout=1.0)
    fresh.starting("the model is being loaded")
    with pytest.raises(OverloadedError, match="being loaded") as caught:
        fresh.check_admits()
    assert caught.value.code == "not_ready"


async def test_own_requests_are_taken_while_starting(checkpoint: Path, tokenizer: Tokenizer) -> None:
    setup = Setup(checkpoint, tokenizer, max_concurrent_requests=0)
    stream = setup.manager.generate(_request("a"), own=True)
    first = asyncio.ensure_future(anext(stream))
    await _settle()
    setup.emit(("a", [1], _STOP))
    assert (await first).token_ids == [1]
    await stream.aclose()


async def test_long_prompts_do_not_stop_the_loop(checkpoint: Path) -> None:
    """The loop takes turns while a thread works on the prompt."""
    entered = asyncio.Event()
    release = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    class SlowTokenizer:
        special_tokens: ClassVar[dict[str, str]] = {}

        def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(_wait(release), loop).result(5)
            return [1]

    setup = Setup(checkpoint, SlowTokenizer())  # type: ignore[arg-type]
    request = GenerateRequest(prompt="x" * 100_000, sampling_params=SamplingParams(), rid="a")
    task = asyncio.create_task(_collect(setup, request))
    await entered.wait()
    # A blocked loop would never get here, and the thread would wait in vain.
    release.set_result(None)
    while not setup.scheduler.sent:
        await asyncio.sleep(0.001)
    setup.emit(("a", [1], _STOP))
    await task


async def _wait(future: asyncio.Future[None]) -> None:
    await asyncio.shield(future)


# --- death and draining ---


async def test_dead_engine_fails_everything_with_its_cause(setup: Setup) -> None:
    streams = [asyncio.create_task(_collect(setup, _request(rid))) for rid in ("a", "b")]
    control = asyncio.create_task(setup.manager.control("flush_cache", {}))
    await _settle()
    setup.manager.fail_all("the scheduler process was killed by signal 9 (SIGKILL)")
    for task in (*streams, control):
        with pytest.raises(EngineDeadError, match="signal 9"):
            await task
    for later in (_collect(setup, _request()), setup.manager.control("flush_cache", {})):
        with pytest.raises(EngineDeadError, match="signal 9"):
            await later
    assert setup.manager.num_in_flight == 0
    assert setup.state.health(0) == (False, "dead: the scheduler process was killed by signal 9 (SIGKILL)")


async def test_what_came_before_the_death_is_still_given(setup: Setup) -> None:
    stream = setup.manager.generate(_request("a"))
    first = asyncio.ensure_future(anext(stream))
    await _settle()
    setup.emit(("a", [1], None))
    setup.manager.fail_all("gone")
    assert (await first).token_ids == [1]
    with pytest.raises(EngineDeadError):
        await anext(stream)


async def test_draining_waits_for_running_requests(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a")))
    await _settle()
    setup.state.draining()
    assert not await setup.manager.wait_idle(0.01)
    waiting = asyncio.create_task(setup.manager.wait_idle(5.0))
    await _settle()
    setup.emit(("a", [1], _STOP))
    assert await waiting
    assert len(await task) == 1


async def test_requests_at_the_deadline_end_with_a_reason(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a", n=2)))
    await _settle()
    setup.emit(("a#0", [1], _STOP), ("a#1", [2], None))
    setup.manager.end_all("the server is shutting down")
    setup.emit(("a#1", [3], None))
    chunks = await task
    last = chunks[-1].finish_reason
    assert last is not None
    assert (last.type, last.message, last.status_code) == ("abort", "the server is shutting down", 503)
    assert await setup.manager.wait_idle(1.0)


async def test_request_that_is_tokenized_at_the_end_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    setup = Setup(save_frontend_checkpoint(tmp_path, max_position_embeddings=10**6), tokenizer)
    long = GenerateRequest(prompt="to be " * 2000, sampling_params=SamplingParams())
    task = asyncio.create_task(_collect(setup, long))
    await asyncio.sleep(0)
    setup.manager.end_all("the server is shutting down")
    with pytest.raises(OverloadedError, match="shutting down"):
        await task
    assert setup.scheduler.sent == []
    assert setup.is_clean()


# --- control, reports ---


async def test_control_answers_are_matched_by_id(setup: Setup) -> None:
    one = asyncio.create_task(setup.manager.control("server_state", {}))
    two = asyncio.create_task(setup.manager.control("update_weights", {"path": "/x"}))
    await _settle()
    first, second = setup.scheduler.sent
    assert (second.method, second.arguments) == ("update_weights", {"path": "/x"})
    setup.manager.handle(ControlReply(id=second.id, ok=True, message="done", data={"weight_version": 1}))
    setup.manager.handle(ControlReply(id=first.id, ok=True, data={"a": 1}))
    assert await one == {"message": "", "a": 1}
    assert await two == {"message": "done", "weight_version": 1}


async def test_refused_control_is_a_request_error(setup: Setup) -> None:
    task = asyncio.create_task(setup.manager.control("flush_cache", {}))
    await _settle()
    setup.manager.handle(ControlReply(id=setup.scheduler.sent[0].id, ok=False, message="2 requests run"))
    with pytest.raises(RequestError, match="2 requests run"):
        await task


async def test_control_without_answer_times_out_and_a_late_answer_is_ignored(setup: Setup) -> None:
    with pytest.raises(RequestError, match="did not answer") as caught:
        await setup.manager.control("flush_cache", {}, timeout=0.01)
    assert caught.value.status_code == 504
    sent = setup.scheduler.sent[0]
    assert isinstance(sent, ControlRequest)
    setup.manager.handle(ControlReply(id=sent.id, ok=True))


def _stats(steps: int, **fields: Any) -> SchedulerStats:
    values = {name: 0 for name in SchedulerStats.__struct_fields__ if name not in ("stage_seconds",)}
    return SchedulerStats(**{**values, "steps_total": steps, **fields})


async def test_health_fails_when_work_makes_no_progress(setup: Setup) -> None:
    manager, state = setup.manager, setup.state
    setup.now = 1000.0
    assert state.health(manager.num_open_choices) == (True, "healthy")
    task = asyncio.create_task(_collect(setup, _request("a")))
    await _settle()
    assert state.health(manager.num_open_choices)[0], "an idle hour is no fault"
    setup.now += 61
    healthy, reason = state.health(manager.num_open_choices)
    assert not healthy
    assert "1 requests are open, but no step completed for 61 s" in reason
    manager.handle(_stats(7))
    assert state.health(manager.num_open_choices)[0], "a long prefill makes steps before it makes tokens"
    setup.now += 61
    manager.handle(_stats(7))
    assert not state.health(manager.num_open_choices)[0], "a report without a step is no progress"
    setup.emit(("a", [1], _STOP))
    await task
    setup.now += 1000
    assert state.health(manager.num_open_choices)[0]


async def test_metrics_count_tokens_and_times(setup: Setup) -> None:
    task = asyncio.create_task(_collect(setup, _request("a")))
    await _settle()
    assert setup.metric("hookline_requests_in_flight") == 1
    setup.emit(("a", [1, 2], None))
    setup.emit(("a", [3, 4, 5], _STOP))
    await task
    assert setup.metric("hookline_requests_in_flight") == 0
    assert setup.metric("hookline_generated_tokens_total") == 5
    assert setup.metric("hookline_prompt_tokens_total") == 3
    assert setup.metric("hookline_cached_prompt_tokens_total") == 1
    assert setup.metric('hookline_requests_total{finish_reason="stop"}') == 1
    assert setup.metric("hookline_time_to_first_token_seconds_count") == 1
    assert setup.metric("hookline_inter_token_seconds_count") == 3
    assert setup.metric("hookline_request_seconds_count") == 1
    assert setup.metric("hookline_queue_seconds_sum") == 0.25


async def test_metrics_show_the_schedulers_report(setup: Setup) -> None:
    setup.manager.handle(_stats(7, num_running=3, num_waiting=4, used_tokens=10, stage_seconds={"wait": 1.5}))
    assert setup.metric("hookline_requests_running") == 3
    assert setup.metric("hookline_requests_waiting") == 4
    assert setup.metric("hookline_kv_tokens_used") == 10
    assert setup.metric("hookline_steps_total") == 7
    assert setup.metric('hookline_scheduler_seconds_total{stage="wait"}') == 1.5
    assert setup.manager.scheduler_report()["num_running"] == 3


async def test_finished_requests_are_logged_when_asked(
    checkpoint: Path, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    setup = Setup(checkpoint, tokenizer, log_requests=True)
    with caplog.at_level(logging.INFO):
        task = asyncio.create_task(_collect(setup, _request("a")))
        await _settle()
        setup.emit(("a", [1], _STOP))
        await task
    (record,) = [record for record in caplog.records if record.getMessage() == "request ended"]
    values = record.__dict__
    assert (values["request_id"], values["finish_reason"], values["completion_tokens"]) == ("a", "stop", 1)
