"""``hookline serve``: start the processes, hand them the plan, and see that none is left behind.

The main process runs HTTP and the tokenizer manager on one asyncio loop and imports no torch. Children are
started first, before the configuration is resolved, so that their imports overlap with everything else.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from hookline.config.engine_plan import EnginePlan
from hookline.config.schema import HooklineConfig
from hookline.config.sources import LoadedConfig
from hookline.errors import HooklineError
from hookline.observability.logging import configure_logging
from hookline.processes.child_process import ChildProcess
from hookline.processes.http_server import bind_listener

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTarget:
    """What one child process runs."""

    #: "module:callable", called with a ``hookline.processes.child.ChildContext``.
    target: str
    #: Modules that the child imports before it knows the plan.
    preload: tuple[str, ...] = ()
    #: What the target finds in its ``ChildContext.options``; plain values.
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTargets:
    """What the children run. Tests and measurements of the frontend put another scheduler here."""

    scheduler: ProcessTarget = ProcessTarget(
        target="hookline.processes.scheduler_process:run", preload=("hookline.processes.scheduler_process",)
    )
    detokenizer: ProcessTarget = ProcessTarget(
        target="hookline.processes.detokenizer_process:run", preload=("hookline.processes.detokenizer_process",)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What resolution gives to a server."""

    plan: EnginePlan
    #: (path, printable value, origin) of every setting that is not a default.
    given: list[tuple[str, str, str]]
    #: What /plugins shows.
    plugin_report: dict[str, Any]


def serve(
    loaded: LoadedConfig,
    *,
    targets: ProcessTargets = ProcessTargets(),
    announce: Callable[[str], Any] | None = None,
) -> int:
    """Run a server until it is told to stop; returns the exit code.

    ``announce`` gets the lines for people once the server is ready (default: stdout). On failure the last
    line on stderr is the cause.
    """
    return run_server(loaded.config, lambda: _resolve(loaded), targets=targets, announce=announce)


def run_server(
    config: HooklineConfig,
    resolve: Callable[[], Resolved],
    *,
    targets: ProcessTargets,
    announce: Callable[[str], Any] | None = None,
) -> int:
    """``serve`` for a configuration that ``resolve`` completes while the children start."""
    started = time.monotonic()
    section = config.observability
    configure_logging(level=section.log_level, log_format=section.log_format, process="server")
    # Until the event loop takes over the signals nothing runs that could be drained.
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        cause = _run(config, resolve, targets, announce or _say, started)
    except HooklineError as exc:
        cause = str(exc)
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    if cause is None:
        return 0
    if section.log_format == "json":
        logger.critical(cause)
    else:
        sys.stderr.write(f"hookline: error: {cause}\n")
    return 1


def _run(
    config: HooklineConfig,
    resolve: Callable[[], Resolved],
    targets: ProcessTargets,
    announce: Callable[[str], Any],
    started: float,
) -> str | None:
    with ExitStack() as stack:
        listener = stack.enter_context(bind_listener(config.server.host, config.server.port))
        children = {}
        for name, target in (("scheduler", targets.scheduler), ("detokenizer", targets.detokenizer)):
            children[name] = ChildProcess(name, preload=target.preload)
            stack.callback(children[name].kill)
        resolved = resolve()

        from hookline.messages.sockets import SocketDirectory
        from hookline.processes.channels import channel_addresses
        from hookline.processes.lifeline import ChildLaunch

        directory = SocketDirectory()
        stack.callback(directory.remove)
        addresses = channel_addresses(directory)
        for name, target in (("scheduler", targets.scheduler), ("detokenizer", targets.detokenizer)):
            children[name].launch(
                ChildLaunch(target=target.target, plan=resolved.plan, addresses=addresses, options=dict(target.options))
            )

        # The HTTP stack is imported while the children load the model.
        from hookline.processes.server import Server

        server = Server(
            plan=resolved.plan,
            children=children,
            addresses=addresses,
            info={"settings": resolved.given},
            plugin_report=resolved.plugin_report,
            listener=listener,
            started=started,
            announce=announce,
            on_connected=directory.remove,
        )
        with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
            return runner.run(server.run())


def _resolve(loaded: LoadedConfig) -> Resolved:
    from hookline.config.resolve import resolve_engine
    from hookline.plugins.manager import load_plugins

    for path, value, origin in loaded.given():
        logger.info("set %s = %s (%s)", path, value, origin)
    registry = load_plugins(loaded.config)
    plan = resolve_engine(loaded.config, registry, for_server=True)
    for path, value, reason in plan.resolved:
        logger.info("chose %s = %s (%s)", path, value, reason)
    return Resolved(
        plan=plan,
        given=[(path, value, str(origin)) for path, value, origin in loaded.given()],
        plugin_report=registry.report(),
    )


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loops where it is installed, asyncio's own otherwise."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    # Nobody needs to read it: `hookline serve | head -1` is fine.
    with suppress(BrokenPipeError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
