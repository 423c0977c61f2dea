"""Grammars compile in processes that may run away, crash or eat memory: their own request fails, and nothing stays."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hookline.errors import RequestError
from hookline.interfaces.grammar import CompiledGrammar
from hookline.plugins.plan import ChosenSpec, PluginPlan
from hookline.scheduler.grammar import GrammarCompiler
from hookline.scheduler.grammar_chain import BackendChain, backend_links
from hookline.scheduler.grammar_host import HostSetup
from hookline.scheduler.grammar_makers import HostedMaker
from hookline.testkit.plans import chosen
from hookline.testkit.scheduling import EOS, VOCAB_SIZE, Harness
from hookline.text.tokenizer import load_tokenizer
from tests.factories.fake_grammar import FakeGrammar
from tests.factories.hostile_grammar import HOSTILE_GRAMMAR

MiB = 1 << 20


def backend(name: str, target: str, *kinds: str) -> ChosenSpec:
    return chosen("grammar_backends", name, f"tests.factories.hostile_grammar:{target}", details={"kinds": list(kinds)})


def make_maker(checkpoint: Path, *specs: ChosenSpec, timeout: float = 20.0, max_bytes: int = 64 * MiB) -> HostedMaker:
    plan = PluginPlan(chosen=list(specs))
    tokenizer = load_tokenizer(checkpoint)
    setup = HostSetup(
        plugins=plan,
        tokenizer_path=str(checkpoint),
        vocab_size=VOCAB_SIZE,
        end_token_ids=(EOS,),
        timeout=timeout,
        max_bytes=max_bytes,
    )
    return HostedMaker(BackendChain(backend_links(plan, specs, lambda: tokenizer, VOCAB_SIZE, (EOS,))), setup)


@pytest.fixture(scope="module")
def maker(checkpoint: Path) -> Iterator[HostedMaker]:
    maker = make_maker(checkpoint, HOSTILE_GRAMMAR)
    maker.prepare()
    yield maker
    maker.close()


@pytest.fixture(scope="module")
def hasty(checkpoint: Path) -> Iterator[HostedMaker]:
    maker = make_maker(checkpoint, HOSTILE_GRAMMAR, timeout=0.3)
    maker.prepare()
    yield maker
    maker.close()


def make(maker: HostedMaker, source: str, kind: str = "regex") -> CompiledGrammar:
    return maker.make(kind, source, lambda _: None)


def source_of(grammar: CompiledGrammar) -> str:
    assert isinstance(grammar, FakeGrammar)
    return grammar.source


def children(pid: int | None) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_another_process_compiled_is_used_here(maker: HostedMaker) -> None:
    assert source_of(make(maker, "7 8")) == "7 8"
    compiled_by = int(source_of(make(maker, "pid")))
    assert compiled_by not in (os.getpid(), maker.host_pid)
    assert source_of(make(maker, "pid")) == str(compiled_by), "a process that works well goes on"


def test_forks_are_made_where_no_other_thread_runs(checkpoint: Path) -> None:
    maker = make_maker(checkpoint, backend("threaded", "ThreadedBackend", "regex"))
    maker.prepare()
    host = maker.host_pid
    try:
        assert source_of(make(maker, "threads")) == "1"
        (forking,) = children(host)
        wait(lambda: children(int(forking)) != [])
    finally:
        maker.close()
    wait(lambda: not Path(f"/proc/{forking}").exists())


@pytest.mark.parametrize("source", ["boom", "eat", "exit"])
def test_what_breaks_off_leaves_nothing_behind(maker: HostedMaker, source: str) -> None:
    compiled_by = source_of(make(maker, "pid"))
    with pytest.raises(RequestError):
        make(maker, source)
    assert source_of(make(maker, "pid")) != compiled_by


def test_what_was_refused_in_good_order_goes_on(maker: HostedMaker) -> None:
    compiled_by = source_of(make(maker, "pid"))
    with pytest.raises(RequestError, match="luck"):
        make(maker, "bad luck")
    assert source_of(make(maker, "pid")) == compiled_by


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("crash", "SIGSEGV"),
        ("exit", "exit code 3"),
        ("eat", "takes more than 64 MiB to compile"),
        ("large", "takes more than 64 MiB|compiles into more than 64 MiB|takes more than its share of memory"),
        ("boom", "cannot be compiled: AssertionError: the parser fell over"),
        ("bad luck", "regex is bad: luck"),
        ("unsupported", "goes too far"),
    ],
)
def test_whatever_compiling_does_is_that_grammars_error(maker: HostedMaker, source: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        make(maker, source)
    assert (caught.value.status_code, caught.value.param) == (400, "regex")
    assert "regex" in str(caught.value)
    assert source_of(make(maker, "7")) == "7", "the next one compiles"


def test_error_codes_travel(maker: HostedMaker) -> None:
    with pytest.raises(RequestError) as caught:
        make(maker, "bad")
    assert caught.value.code == "very_bad"


@pytest.mark.parametrize("source", ["spin", "sleep"])
def test_a_grammar_that_runs_away_is_killed(hasty: HostedMaker, source: str) -> None:
    started = time.monotonic()
    with pytest.raises(RequestError, match=r"regex did not compile within 0.3 s; simplify it"):
        make(hasty, source)
    assert time.monotonic() - started < 10
    wait(lambda: not children(hasty.host_pid))
    assert source_of(make(hasty, "7")) == "7"


def test_a_source_of_a_megabyte_travels(maker: HostedMaker) -> None:
    source = "7 " * 500_000
    assert source_of(make(maker, source)) == source


def test_many_compile_side_by_side(maker: HostedMaker) -> None:
    results: list[str] = []

    def work(number: int) -> None:
        try:
            results.append(source_of(make(maker, str(number) if number % 3 else "crash")))
        except RequestError as error:
            results.append("SIGSEGV" if "SIGSEGV" in str(error) else str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == sorted("SIGSEGV" if number % 3 == 0 else str(number) for number in range(24))
    # Those that are idle take the next grammars.
    idle = set(children(maker.host_pid))
    assert source_of(make(maker, "pid")) in idle


def test_a_host_that_was_killed_is_replaced(checkpoint: Path) -> None:
    maker = make_maker(checkpoint, HOSTILE_GRAMMAR)
    maker.prepare()
    assert maker.host_pid is not None
    before = maker.host_pid
    os.kill(before, signal.SIGKILL)
    assert source_of(make(maker, "7 8")) == "7 8"
    assert maker.host_pid != before
    maker.close()


def test_a_host_that_was_killed_is_replaced_before_anybody_asks(checkpoint: Path) -> None:
    maker = make_maker(checkpoint, HOSTILE_GRAMMAR)
    maker.prepare()
    before = maker.host_pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait(lambda: maker.host_pid not in (before, None))
    assert source_of(make(maker, "7 8")) == "7 8"
    maker.close()


def test_the_host_and_its_forks_end_with_the_last_reference(checkpoint: Path) -> None:
    maker = make_maker(checkpoint, HOSTILE_GRAMMAR)
    maker.prepare()
    host = maker.host_pid

    def wait_for_it() -> None:
        with pytest.raises(RequestError):
            make(maker, "sleep")

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    wait(lambda: bool(children(host)))
    (fork,) = children(host)
    maker.close()
    waiting.join(20)
    for pid in (str(host), fork):
        wait(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]


def test_a_backend_that_cannot_be_made_is_left_out(checkpoint: Path) -> None:
    broken, fine = backend("broken", "BrokenBackend", "regex", "ebnf"), backend("fine", "HostileBackend", "regex")
    maker = make_maker(checkpoint, broken, fine)
    maker.prepare()
    assert source_of(make(maker, "7")) == "7"
    with pytest.raises(RequestError, match=r"'broken' of tests cannot be made.*cannot be taken") as caught:
        make(maker, "7", "ebnf")
    assert caught.value.status_code == 500
    maker.close()


def test_without_any_backend_nothing_is_compiled(checkpoint: Path) -> None:
    maker = make_maker(checkpoint, backend("broken", "BrokenBackend", "regex"))
    with pytest.raises(RequestError, match="this tokenizer cannot be taken") as caught:
        maker.prepare()
    assert caught.value.status_code == 500
    assert maker.host_pid is None


def test_a_grammar_goes_to_the_first_backend_that_enforces_it(checkpoint: Path) -> None:
    timid, bold = backend("timid", "TimidBackend", "regex"), backend("bold", "HostileBackend", "regex", "ebnf")
    maker = make_maker(checkpoint, timid, bold)
    maker.prepare()
    assert source_of(make(maker, "7 8")) == "7 8"
    assert source_of(make(maker, "8", "ebnf")) == "8"
    with pytest.raises(RequestError, match="goes too far; and regex goes too far"):
        make(maker, "unsupported")
    with pytest.raises(RequestError, match="no grammar backend of this engine supports choice"):
        make(maker, "8", "choice")
    maker.close()


# --- in the compiler ---


def test_a_grammar_that_nobody_waits_for_is_killed(maker: HostedMaker) -> None:
    compiler = GrammarCompiler(maker, timeout=20, max_bytes=MiB, num_threads=1)
    spare = source_of(make(maker, "pid"))
    job = compiler.request("regex", "sleep")
    wait(lambda: job.give_up is not None)
    compiler.leave(job)
    wait(lambda: spare not in children(maker.host_pid))
    good = compiler.request("regex", "7")
    wait(lambda: compiler.poll(good) is not None)
    assert compiler.request("regex", "sleep") is not job, "what was given up is not remembered"


# --- in the scheduler ---


def test_hostile_grammars_hurt_nobody_else(checkpoint: Path) -> None:
    settings = {"grammar": {"grammar_timeout": 0.5, "grammar_memory_bytes": 64 * MiB, "grammar_workers": 8}}
    harness = Harness(checkpoint, plugins=[HOSTILE_GRAMMAR], config=settings)
    for source in ("spin", "sleep", "crash", "exit", "eat", "boom", "bad"):
        harness.add(source, [5], regex=source)
    harness.add("good", [5], 5, regex="7 8")
    harness.add("free", [6], 40)
    done_at: dict[str, float] = {}
    deadline = time.monotonic() + 60
    while harness.step() and time.monotonic() < deadline:
        for rid in harness.finished:
            done_at.setdefault(rid, time.monotonic())
    for source in ("spin", "sleep", "crash", "exit", "eat", "boom", "bad"):
        finish = harness.outputs[source].finish
        assert finish is not None
        assert (finish.type, finish.status_code) == ("abort", 400), source
    assert harness.outputs["good"].token_ids == [7, 8, EOS]
    assert harness.outputs["free"].reason == "length"
    assert done_at["free"] == min(done_at.values()), "a request without a grammar waits for none"
    harness.assert_idle()
