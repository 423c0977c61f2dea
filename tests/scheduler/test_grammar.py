"""Grammars compile beside the loop, once each, within bounds; whatever they do, the loop goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarBackend, GrammarEnv
from hookline.scheduler.grammar import CompileJob, GrammarCompiler
from hookline.scheduler.grammar_chain import BackendChain, BackendLink
from hookline.scheduler.grammar_makers import LocalMaker
from hookline.testkit.fake_tokens import expected_output
from hookline.testkit.scheduling import EOS, VOCAB_SIZE, Harness
from hookline.text.tokenizer import load_tokenizer
from tests.factories.fake_grammar import FAKE_GRAMMAR, FakeGrammar, FakeGrammarBackend


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def backend(checkpoint: Path) -> Iterator[FakeGrammarBackend]:
    tokenizer = load_tokenizer(checkpoint)
    backend = FakeGrammarBackend(GrammarEnv(tokenizer=tokenizer, vocab_size=VOCAB_SIZE, end_token_ids=(EOS,)))
    yield backend
    backend.gate.set()


MakeCompiler = Callable[..., GrammarCompiler]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(backend: FakeGrammarBackend, clock: Clock) -> MakeCompiler:
    def make(**options: int) -> GrammarCompiler:
        settings = {"timeout": 30.0, "max_bytes": 1 << 20, **options}
        return GrammarCompiler(local(lambda: backend), clock=clock, **settings)  # type: ignore[arg-type]

    return make


def local(make: Callable[[], GrammarBackend]) -> LocalMaker:
    kinds = frozenset({"regex", "ebnf"})
    return LocalMaker(BackendChain([BackendLink(name="fake", kinds=kinds, make=make)]))


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def result(compiler: GrammarCompiler, job: CompileJob) -> FakeGrammar:
    wait(lambda: compiler.poll(job) is not None)
    grammar = compiler.poll(job)
    assert isinstance(grammar, FakeGrammar)
    return grammar


def started(job: CompileJob) -> Callable[[], bool]:
    return lambda: job.started_at is not None


def test_equal_grammars_compile_once(make: MakeCompiler, backend: FakeGrammarBackend) -> None:
    compiler = make()
    first, second = compiler.request("regex", "slow"), compiler.request("regex", "slow")
    backend.gate.set()
    assert result(compiler, first) is result(compiler, second)
    assert result(compiler, compiler.request("regex", "slow")) is result(compiler, first)
    assert backend.compiled == ["slow"]


def test_the_kind_is_part_of_what_is_remembered(make: MakeCompiler, backend: FakeGrammarBackend) -> None:
    compiler = make()
    result(compiler, compiler.request("regex", "3"))
    result(compiler, compiler.request("ebnf", "3"))
    assert backend.compiled == ["3", "3"]


def test_kept_grammars_are_bounded_by_bytes_and_the_oldest_goes(
    make: MakeCompiler, backend: FakeGrammarBackend
) -> None:
    compiler = make(max_bytes=4000)
    for source in ("3", "4", "5"):
        result(compiler, compiler.request("regex", source))
    result(compiler, compiler.request("regex", "3"))
    result(compiler, compiler.request("regex", "6"))
    assert backend.compiled == ["3", "4", "5", "6"]
    result(compiler, compiler.request("regex", "3"))
    assert backend.compiled == ["3", "4", "5", "6"]
    result(compiler, compiler.request("regex", "4"))
    assert backend.compiled == ["3", "4", "5", "6", "4"]
    compiler.clear()
    result(compiler, compiler.request("regex", "4"))
    assert backend.compiled[-1] == "4"


def test_a_failure_is_remembered(make: MakeCompiler, backend: FakeGrammarBackend) -> None:
    compiler = make()
    job = compiler.request("regex", "bad")
    wait(lambda: job.is_done)
    with pytest.raises(RequestError, match="unexpected end"):
        compiler.poll(job)
    with pytest.raises(RequestError, match="unexpected end"):
        compiler.poll(compiler.request("regex", "bad"))
    assert backend.compiled == ["bad"]


def test_any_exception_is_the_requests_error(make: MakeCompiler) -> None:
    compiler = make()
    job = compiler.request("regex", "boom")
    wait(lambda: job.is_done)
    with pytest.raises(RequestError, match=r"regex cannot be compiled: AssertionError: the parser fell over") as error:
        compiler.poll(job)
    assert error.value.status_code == 400


def test_a_backend_that_cannot_be_made_is_a_server_error(clock: Clock) -> None:
    def broken() -> FakeGrammarBackend:
        raise ImportError("no such library")

    compiler = GrammarCompiler(local(broken), timeout=30, max_bytes=1000, clock=clock)
    job = compiler.request("regex", "3")
    wait(lambda: job.is_done)
    with pytest.raises(RequestError, match="no such library") as error:
        compiler.poll(job)
    assert error.value.status_code == 500


def test_a_slow_grammar_times_out_and_another_thread_takes_over(
    make: MakeCompiler, backend: FakeGrammarBackend, clock: Clock
) -> None:
    compiler = make(num_threads=1)
    slow, behind = compiler.request("regex", "slow"), compiler.request("regex", "3")
    wait(started(slow))
    assert compiler.poll(slow) is None
    assert behind.started_at is None
    clock.now = 31
    with pytest.raises(RequestError, match="regex did not compile within 30 s"):
        compiler.poll(slow)
    assert result(compiler, behind).source == "3"
    with pytest.raises(RequestError, match="did not compile"):
        compiler.poll(compiler.request("regex", "slow"))
    # The thread comes back in the end, and what it brings is good.
    backend.gate.set()
    wait(lambda: slow.is_done)
    assert result(compiler, compiler.request("regex", "slow")).source == "3"


def test_stuck_threads_are_bounded(make: MakeCompiler, clock: Clock) -> None:
    compiler = make(num_threads=1, max_stuck=2)
    for i in range(3):
        job = compiler.request("regex", f"slow{i}")
        wait(started(job))
        clock.now += 31
        with pytest.raises(RequestError, match="did not compile"):
            compiler.poll(job)
    late = compiler.request("regex", "3")
    with pytest.raises(RequestError, match="too many grammars") as error:
        compiler.poll(late)
    assert error.value.status_code == 503


def test_a_grammar_that_nobody_waits_for_is_not_begun(make: MakeCompiler, backend: FakeGrammarBackend) -> None:
    compiler = make(num_threads=1)
    slow, queued = compiler.request("regex", "slow"), compiler.request("regex", "4")
    assert compiler.request("regex", "4") is queued
    wait(started(slow))
    compiler.leave(queued)
    compiler.leave(queued)
    backend.gate.set()
    result(compiler, slow)
    result(compiler, compiler.request("regex", "5"))
    assert backend.compiled == ["slow", "5"]


# --- in the scheduler ---


def test_bad_grammars_fail_their_requests_and_the_server_serves_on(checkpoint: Path) -> None:
    harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR])
    harness.add("bad", [5], regex="bad")
    harness.add("boom", [5], regex="boom")
    harness.add("wrong kind", [5], json_schema="{}")
    harness.add("good", [5], 5, regex="7 8")
    harness.add("free", [6], 5)
    outputs = harness.run()
    for rid, words in (("bad", "regex"), ("boom", "fell over"), ("wrong kind", "supports json_schema")):
        finish = outputs[rid].finish
        assert finish is not None
        assert (finish.type, finish.status_code) == ("abort", 400)
        assert words in finish.message
    assert outputs["good"].token_ids == [7, 8, EOS]
    assert outputs["free"].token_ids == expected_output([6], 5, VOCAB_SIZE)
    harness.assert_idle()


def test_without_a_backend_constrained_requests_are_refused(checkpoint: Path) -> None:
    harness = Harness(checkpoint)
    harness.add("a", [5], regex="3")
    finish = harness.run()["a"].finish
    assert finish is not None
    assert finish.status_code == 400
    assert "grammar backend" in finish.message


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("what", ["accept", "refuses", "mask"])
def test_a_matcher_that_fails_ends_its_request_only(checkpoint: Path, what: str, overlap: bool) -> None:
    harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR], overlap=overlap)
    harness.add("broken", [5], 9, regex=f"breaks:{what}")
    harness.add("fine", [5], 9, regex="7|8 7|8 9")
    harness.add("free", [6], 9)
    outputs = harness.run()
    finish = outputs["broken"].finish
    assert finish is not None
    assert (finish.type, finish.status_code, finish.code) == ("abort", 500, "grammar_failed")
    assert len(outputs["broken"].token_ids) == 1
    assert outputs["fine"].token_ids[2:] == [9, EOS]
    assert outputs["free"].token_ids == expected_output([6], 9, VOCAB_SIZE)
    harness.assert_idle()


def test_retraction_keeps_the_place_in_the_grammar(checkpoint: Path) -> None:
    places = " ".join(f"{token}|{token + 1}" for token in range(10, 50, 2))

    def run(scheduler: str) -> list[int]:
        harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR], scheduler=scheduler)
        harness.add("a", [5], 30, regex=places)
        harness.add("b", [6], 30)
        outputs = harness.run()
        harness.assert_idle()
        return outputs["a"].token_ids

    retracted = run("tests.factories.schedulers:RetractingScheduler")
    assert retracted == run("hookline_schedulers.default:DefaultScheduler")
    assert len(retracted) == 21


def test_a_full_length_without_the_grammars_end_is_a_length(checkpoint: Path) -> None:
    harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR])
    harness.add("a", [5], 2, regex="7 8 9")
    output = harness.run()["a"]
    assert (output.token_ids, output.reason) == ([7, 8], "length")


def test_flush_forgets_compiled_grammars(checkpoint: Path) -> None:
    harness = Harness(checkpoint, plugins=[FAKE_GRAMMAR])
    harness.add("a", [5], 5, regex="7 8")
    harness.run()
    assert harness.control("flush_cache").ok
    harness.add("b", [5], 5, regex="7 8")
    assert harness.run()["b"].token_ids == [7, 8, EOS]
