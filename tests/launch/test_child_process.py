"""ChildProcess and its lifeline, without a server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookline.errors import EngineDeadError, ModelError
from hookline.processes.child import ChildContext
from hookline.processes.child_process import ChildProcess
from hookline.processes.lifeline import ChildLaunch
from hookline.testkit.plans import make_plan

_HERE = "tests.launch.test_child_process"


def report_environment(context: ChildContext) -> None:
    """Target: tells what it got, then ends."""
    context.ready({"addresses": dict(context.addresses), "model": context.plan.served_model_name})


def wait_for_ever(context: ChildContext) -> None:
    """Target: gets ready and stays."""
    context.ready({"pid": os.getpid()})
    while True:
        time.sleep(60)


def fail_on_purpose(context: ChildContext) -> None:
    """Target: an error that explains itself."""
    raise ModelError("no such model: 'x'\nhave a look at the list")


def fail_by_surprise(context: ChildContext) -> None:
    """Target: a bug, told with much text."""
    raise KeyError("k" * 200_000)


def exit_with_code(context: ChildContext) -> None:
    """Target: leaves without a word."""
    os._exit(7)


def leave_a_grandchild(context: ChildContext) -> None:
    """Target: is killed while a forked process still has its descriptors."""
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def crash_natively(context: ChildContext) -> None:
    """Target: what a broken kernel does."""
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    made = ChildProcess("worker")
    yield made
    made.kill()


def _launch(child: ChildProcess, target: Any, **addresses: str) -> None:
    plan = make_plan(Path("/nowhere"))
    child.launch(ChildLaunch(target=f"{_HERE}:{target.__name__}", plan=plan, addresses=addresses))


async def test_child_gets_plan_and_addresses(child: ChildProcess) -> None:
    _launch(child, report_environment, scheduler="ipc:///x")
    watch = asyncio.create_task(child.watch())
    assert await child.ready() == {"addresses": {"scheduler": "ipc:///x"}, "model": "tiny"}
    assert await watch == f"the worker process (pid {child.pid}) ended with exit code 0"


async def test_error_of_our_own_is_told_without_its_type(child: ChildProcess) -> None:
    _launch(child, fail_on_purpose)
    watch = asyncio.create_task(child.watch())
    with pytest.raises(EngineDeadError, match="no such model: 'x'"):
        await child.ready()
    assert await watch == "the worker process failed: no such model: 'x'\nhave a look at the list"


async def test_other_errors_are_told_with_type_and_place(child: ChildProcess, caplog: pytest.LogCaptureFixture) -> None:
    _launch(child, fail_by_surprise)
    cause = await child.watch()
    assert cause.startswith("the worker process failed: KeyError: 'kkk")
    assert "in fail_by_surprise" in caplog.text


@pytest.mark.parametrize(
    ("target", "word"),
    [
        (exit_with_code, "ended with exit code 7"),
        (leave_a_grandchild, "was killed by signal 9 (SIGKILL); the system may be out of memory"),
        (crash_natively, "was killed by signal 11 (SIGSEGV)"),
    ],
)
async def test_silent_death_is_explained(child: ChildProcess, target: Any, word: str) -> None:
    _launch(child, target)
    assert await child.watch() == f"the worker process (pid {child.pid}) {word}"


async def test_target_that_does_not_exist_is_told(child: ChildProcess) -> None:
    plan = make_plan(Path("/nowhere"))
    child.launch(ChildLaunch(target="no.such.module:run", plan=plan, addresses={}))
    assert "ModuleNotFoundError: No module named 'no'" in await child.watch()


async def test_missing_preload_is_told() -> None:
    child = ChildProcess("worker", preload=["no_such_module_at_all"])
    _launch(child, report_environment)
    assert "no_such_module_at_all" in await child.watch()
    child.kill()


async def test_child_ends_when_its_parent_hangs_up(child: ChildProcess) -> None:
    """The way out on systems where the kernel does not tell children of their parent's death."""
    _launch(child, wait_for_ever)
    watch = asyncio.create_task(child.watch())
    assert (await child.ready())["pid"] == child.pid
    child.hang_up()
    assert await watch == f"the worker process (pid {child.pid}) ended with exit code 0"


async def test_child_ends_when_its_parent_hangs_up_before_launching(child: ChildProcess) -> None:
    child.hang_up()
    assert "exit code 0" in await child.watch()


async def test_child_ignores_signals_that_are_meant_for_its_parent(child: ChildProcess) -> None:
    _launch(child, wait_for_ever)
    watch = asyncio.create_task(child.watch())
    await child.ready()
    os.kill(child.pid, signal.SIGINT)
    os.kill(child.pid, signal.SIGTERM)
    _, pending = await asyncio.wait([watch], timeout=0.2)
    assert pending == {watch}
    child.kill()
    await watch


def test_killing_twice_is_harmless(child: ChildProcess) -> None:
    child.kill()
    child.kill()
    assert not child.is_alive
