"""Server: the life of the main process, from waiting for its children to stopping them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from socket import socket
from typing import TYPE_CHECKING, Any

import zmq

from hookline._version import __version__
from hookline.api.app import create_app
from hookline.api.families import load_families
from hookline.config.engine_plan import EnginePlan
from hookline.config.secrets import redact
from hookline.errors import HooklineError, OverloadedError
from hookline.frontend.engine_state import EngineState
from hookline.frontend.request_builder import RequestBuilder
from hookline.frontend.serving import EngineServing, ServerReports
from hookline.frontend.tokenizer_manager import TokenizerManager
from hookline.interfaces.api import GenerateRequest
from hookline.media.factory import build_intake, build_processor
from hookline.media.intake import MediaIntake
from hookline.messages.control import ControlRequest
from hookline.messages.sockets import AsyncSocketReceiver, SocketReceiver
from hookline.messages.transport import Sender
from hookline.messages.wire import FrontendInput, SchedulerInput
from hookline.observability.metrics import Metrics
from hookline.observability.timeline import process_started, timeline_text, whole_start
from hookline.processes.channels import frontend_ends
from hookline.processes.child_process import ChildProcess
from hookline.processes.http_server import base_url, make_http_server
from hookline.sampling_params import SamplingParams
from hookline.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)

#: Seconds that HTTP gets to end its connections, beyond uvicorn's own grace.
_HTTP_SECONDS = 3.0
#: Seconds that the scheduler gets to free the device.
_SHUTDOWN_SECONDS = 5.0
_WARMUP_TOKENS = 4


class Server:
    """One server. ``run`` returns when it has stopped; the caller reaps the children."""

    def __init__(
        self,
        *,
        plan: EnginePlan,
        children: Mapping[str, ChildProcess],
        addresses: Mapping[str, str],
        info: Mapping[str, Any],
        plugin_report: Mapping[str, Any],
        listener: socket,
        started: float,
        announce: Callable[[str], Any],
        on_connected: Callable[[], None],
    ) -> None:
        """``started`` is the monotonic time of the command's start; ``on_connected`` is called once all
        channels are connected."""
        self._plan = plan
        self._config = plan.config
        self._children = children
        self._addresses = addresses
        self._listener = listener
        self._started = started
        self._announce = announce
        self._on_connected = on_connected
        self._is_connected = False
        self._num_signals = 0
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._reports = ServerReports(
            info={
                "version": __version__,
                "model": plan.served_model_name,
                "model_path": plan.model_path,
                "config": redact(plan.config_values),
                "resolved": [list(row) for row in plan.resolved],
                "refusals": plan.refusals,
                "processes": {"server": {"pid": os.getpid()}},
                **info,
            },
            plugins={"chosen": [_chosen(spec) for spec in plan.plugins.chosen], **plugin_report},
        )

    async def run(self) -> str | None:
        """Serve until a signal or a failure; returns the failure's cause, ``None`` after a normal stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        receiver, sender = frontend_ends(self._addresses, context)
        watches = {name: asyncio.create_task(child.watch()) for name, child in self._children.items()}
        manager: TokenizerManager | None = None
        try:
            tokenizer = None if self._config.model.skip_tokenizer_init else load_tokenizer(self._plan.tokenizer_path)
            processor = build_processor(self._plan, tokenizer)
            media = None if processor is None else build_intake(self._plan, processor)
            manager = TokenizerManager(
                RequestBuilder(self._plan, tokenizer, processor),
                sender,
                state=EngineState(health_timeout=self._config.observability.health_timeout),
                metrics=Metrics(),
                max_concurrent_requests=self._config.server.max_concurrent_requests,
                log_requests=self._config.observability.log_requests,
                media=media,
            )
            serving = EngineServing(self._plan, manager, tokenizer, self._reports)
            http = make_http_server(
                create_app(serving, load_families(self._plan.plugins), self._config), self._config.server
            )
            cause = await self._serve(manager, media, http, receiver, watches)
            if cause is None and self._is_connected:
                await self._shut_down_scheduler(sender, watches["scheduler"])
            return cause
        finally:
            if manager is not None:
                await manager.close()
            for task in watches.values():
                task.cancel()
            sender.close()
            receiver.close()
            context.term()

    async def _serve(
        self,
        manager: TokenizerManager,
        media: MediaIntake | None,
        http: uvicorn.Server,
        receiver: SocketReceiver[FrontendInput],
        watches: Mapping[str, asyncio.Task[str]],
    ) -> str | None:
        listening = asyncio.create_task(_listen(http, self._listener))
        pumping = asyncio.create_task(_pump(receiver, manager))
        starting = asyncio.create_task(self._start_up(manager, media))
        stopping = asyncio.create_task(self._stop.wait())
        tasks: set[asyncio.Task[Any]] = {listening, pumping, starting, stopping, *watches.values()}
        try:
            while True:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if done != {starting} or starting.exception() is not None:
                    break
                tasks.discard(starting)
            cause = _cause(done - {stopping}, watches)
            if cause is None:
                cause = await self._drain(manager, watches)
            if cause is not None:
                logger.error("the server stops: %s", cause)
                manager.fail_all(cause)
            await self._close_http(http, listening)
            return cause
        finally:
            for task in (listening, pumping, starting, stopping):
                task.cancel()
            await asyncio.gather(listening, pumping, starting, stopping, return_exceptions=True)

    async def _start_up(self, manager: TokenizerManager, media: MediaIntake | None) -> None:
        state = manager.state
        state.starting("the model is being loaded")
        processes = self._reports.info["processes"]
        process_start = process_started()
        until_ready: dict[str, float] = {}
        for name, child in self._children.items():
            processes[name] = {"pid": child.pid, **await child.ready()}
            until_ready[name] = time.monotonic() - process_start
        # The answer has passed all three channels.
        await manager.control("server_state", {})
        self._is_connected = True
        self._on_connected()
        if self._config.server.warmup:
            state.starting("the engine is warming up")
            await _warm_up(manager)
        state.ready()
        seconds = time.monotonic() - self._started
        self._reports.info["start_seconds"] = round(seconds, 3)
        timeline = whole_start(
            processes["scheduler"].get("start_timeline", {}),
            until_ready=until_ready["scheduler"],
            total=time.monotonic() - process_start,
        )
        self._reports.info["start_timeline"] = timeline
        logger.info("start: %s", timeline_text(timeline))
        logger.info("ready", extra={"seconds": round(seconds, 3)})
        url = base_url(self._listener, self._config.server)
        self._announce(
            f"Hookline serves {self._plan.served_model_name} at {url} (ready in {seconds:.1f} s). Try:\n"
            f"  {_example(url, self._plan, manager.builder)}"
        )
        if media is not None:
            # Only now: its imports would take processor time from the start.
            await media.start_ahead()

    async def _drain(self, manager: TokenizerManager, watches: Mapping[str, asyncio.Task[str]]) -> str | None:
        """Let running requests end, up to the deadline; gives the cause if a process dies meanwhile."""
        manager.state.draining()
        seconds = self._config.server.drain_timeout
        if manager.num_in_flight:
            logger.info("draining %d requests for up to %g s; signal again to stop now", manager.num_in_flight, seconds)
        idle = asyncio.create_task(manager.wait_idle(seconds))
        now = asyncio.create_task(self._stop_now.wait())
        try:
            done, _ = await asyncio.wait({idle, now, *watches.values()}, return_when=asyncio.FIRST_COMPLETED)
            cause = _cause(done - {idle, now}, watches)
        finally:
            idle.cancel()
            now.cancel()
        if cause is None and manager.num_in_flight:
            logger.warning("%d requests are cut off", manager.num_in_flight)
            manager.end_all("the server is shutting down")
        return cause

    async def _shut_down_scheduler(self, sender: Sender[SchedulerInput], watch: asyncio.Task[str]) -> None:
        """Let the scheduler free the device in order; whoever does not listen is killed afterwards."""
        with contextlib.suppress(OverloadedError):
            sender.send(ControlRequest(id=0, method="shutdown"))
        await asyncio.wait([watch], timeout=_SHUTDOWN_SECONDS)

    async def _close_http(self, http: uvicorn.Server, listening: asyncio.Task[None]) -> None:
        http.should_exit = True
        await asyncio.wait([listening], timeout=_HTTP_SECONDS)
        if not listening.done():
            http.force_exit = True
            await asyncio.wait([listening], timeout=1.0)

    def _on_signal(self) -> None:
        self._num_signals += 1
        self._stop.set()
        if self._num_signals > 1:
            self._stop_now.set()


async def _listen(http: uvicorn.Server, listener: socket) -> None:
    try:
        await http.serve(sockets=[listener])
    except SystemExit as exc:
        # uvicorn's way to say that the application did not start; it has logged why.
        raise HooklineError("the HTTP application does not start") from exc


async def _pump(receiver: SocketReceiver[FrontendInput], manager: TokenizerManager) -> None:
    incoming = AsyncSocketReceiver(receiver)
    try:
        while True:
            for message in await incoming.receive():
                manager.handle(message)
    finally:
        incoming.stop()


async def _warm_up(manager: TokenizerManager) -> None:
    """One short request through all processes; raises ``HooklineError`` with its error if it fails."""
    request = GenerateRequest(
        input_ids=[0],
        sampling_params=SamplingParams(max_new_tokens=_WARMUP_TOKENS, temperature=0.0, ignore_eos=True),
        cache_salt="warm-up",
    )
    async with aclosing(manager.generate(request, own=True)) as chunks:
        async for chunk in chunks:
            finish = chunk.finish_reason
            if finish is not None and finish.type == "abort":
                raise HooklineError(f"the warm-up request failed: {finish.message}")


def _cause(done: set[asyncio.Task[Any]], watches: Mapping[str, asyncio.Task[str]]) -> str | None:
    """Why the server must stop, if one of these ended tasks is a reason. A dead process comes first: other
    failures follow from it."""
    for watch in watches.values():
        if watch in done:
            return watch.result()
    for task in done:
        error = task.exception()
        if error is None:
            return "the HTTP server ended by itself"
        if not isinstance(error, HooklineError):
            logger.error("a part of the server failed", exc_info=error)
            return f"{type(error).__name__}: {error}"
        return str(error)
    return None


def _chosen(spec: Any) -> dict[str, Any]:
    return {
        "kind": spec.kind,
        "name": spec.name,
        "distribution": spec.distribution,
        "version": spec.version,
        "features": list(spec.features),
    }


def _example(url: str, plan: EnginePlan, builder: RequestBuilder) -> str:
    """One command to try, of a route that is served; what is served, if none is known."""
    served = {path for spec in plan.plugins.of_kind("api_families") for path in spec.details.get("paths", ())}
    body: dict[str, Any]
    if "/v1/chat/completions" in served and builder.has_chat_template:
        path = "/v1/chat/completions"
        body = {"model": plan.served_model_name, "messages": [{"role": "user", "content": "Hello!"}]}
    elif "/generate" in served and plan.config.model.skip_tokenizer_init:
        path, body = "/generate", {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 8}}
    elif "/v1/completions" in served and not plan.config.model.skip_tokenizer_init:
        path, body = "/v1/completions", {"model": plan.served_model_name, "prompt": "Once upon a time"}
    else:
        return f"curl {url}/docs"
    key = " -H 'authorization: Bearer YOUR_KEY'" if plan.config.server.api_key is not None else ""
    return f"curl {url}{path} -H 'content-type: application/json'{key} -d '{json.dumps(body)}'"
