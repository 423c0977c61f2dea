"""``python -m hookline.processes.child``: the body of every child process.

Started before it is known what to run, so that slow imports overlap with the parent's work.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hookline.config.engine_plan import EnginePlan
from hookline.messages.control import ProcessFailed, ProcessReady
from hookline.observability.logging import configure_logging
from hookline.observability.timeline import Timeline, process_started
from hookline.plugins.discovery import put_on_path
from hookline.processes.lifeline import ChildLifeline

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildContext:
    """What the target of a child process gets."""

    plan: EnginePlan
    #: Channel name -> ZMQ address.
    addresses: Mapping[str, str]
    #: Call once, when work can be done; the values appear in /server_info.
    ready: Callable[[dict[str, Any]], None]
    #: Phases of the start so far; the target goes on with it.
    timeline: Timeline = field(default_factory=Timeline)
    #: Settings of the target itself (``ProcessTarget.options``).
    options: Mapping[str, Any] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Import what is sure to be needed, wait for what to run, run it, report how it went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--preload", action="append", default=[])
    options = parser.parse_args(arguments)
    faulthandler.enable()
    # Signals of a terminal or a service manager reach every process; the parent alone acts on them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _die_with(options.parent)
    lifeline = ChildLifeline(options.lifeline)
    try:
        timeline = Timeline(started=process_started())
        for module in options.preload:
            importlib.import_module(module)
        timeline.mark("import")
        _run(options.name, lifeline, timeline)
    except BaseException as exc:
        lifeline.report(
            ProcessFailed(
                process=options.name,
                error_type=type(exc).__name__,
                message=str(exc),
                traceback=traceback.format_exc(),
            )
        )
        return 1
    return 0


def _run(name: str, lifeline: ChildLifeline, timeline: Timeline) -> None:
    launch = lifeline.launch()
    timeline.mark("config")
    section = launch.plan.config.observability
    configure_logging(level=section.log_level, log_format=section.log_format, process=name)
    put_on_path(launch.plan.plugins.source_paths)
    module, _, attribute = launch.target.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    target(
        ChildContext(
            plan=launch.plan,
            addresses=launch.addresses,
            options=launch.options,
            timeline=timeline,
            ready=lambda info: lifeline.report(ProcessReady(process=name, info=info)),
        )
    )


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the parent ends, even while native code holds the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before the kernel was asked.
        os._exit(0)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Not sys.exit: a library's thread that still runs must not keep a finished process alive.
    os._exit(code)
