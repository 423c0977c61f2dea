"""An HTTP application and its clients in one process, without a network."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from hookline.api.app import create_app
from hookline.api.families import LoadedFamily, load_families
from hookline.config.schema import HooklineConfig, ServerConfig
from hookline.interfaces.api import ApiFamilySpec
from hookline.plugins.options import check_options
from hookline.plugins.plan import PluginPlan
from hookline.plugins.resolve import choose
from hookline.testkit.fake_serving import FakeServing
from hookline.testkit.offer_suite import installed

T = TypeVar("T")


def make_app(
    families: Sequence[str | LoadedFamily],
    serving: FakeServing | None = None,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    **server: Any,
) -> FastAPI:
    """The application that ``hookline serve`` runs, over ``serving`` (a ``FakeServing()`` if none is given).

    ``families`` are names of installed ones or ready-made ones. ``options`` are plugin -> its options, as in
    the section ``plugins`` of a config file; ``server`` are settings of the section ``server``.
    """
    serving = serving or FakeServing()
    serving.config = HooklineConfig(server=ServerConfig(**server))
    ready = [installed_family(item, options) if isinstance(item, str) else item for item in families]
    return create_app(serving, ready, serving.config)


def installed_family(name: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> LoadedFamily:
    """An installed API family, as a server loads it. ``PluginError`` with what is installed for other names."""
    registry = installed()
    offer = registry.get(ApiFamilySpec, name)
    plugin = registry.plugin(offer.plugin)
    model = plugin.info.config_model
    plan = PluginPlan(
        chosen=[choose(offer)],
        source_paths=registry.source_paths,
        options={} if model is None else check_options(options or {}, registry),
        config_models={} if model is None else {plugin.name: model},
    )
    (family,) = load_families(plan)
    return family


def http(app: Callable[..., Any], **options: Any) -> httpx.AsyncClient:
    """A client that calls the application directly. ``options`` are those of ``httpx.AsyncClient``."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server", **options)


async def call_and_leave(
    app: Callable[..., Any],
    path: str,
    body: Any,
    *,
    leave: asyncio.Event | bytes,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    patience: float = 10.0,
) -> list[Message]:
    """Call the application, close the connection in the middle, and give what it sent until then.

    The client leaves when ``leave`` is set, or when it has received those bytes. Raises ``TimeoutError`` if
    that takes more than ``patience`` seconds, or the application goes on for longer after it.
    """
    left = leave if isinstance(leave, asyncio.Event) else asyncio.Event()
    sent: list[Message] = []
    content = [json.dumps(body).encode()]

    async def receive() -> Message:
        if content:
            return {"type": "http.request", "body": content.pop(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if left.is_set():
            raise OSError("the client has gone")
        sent.append(message)
        if isinstance(leave, bytes) and leave in b"".join(part.get("body", b"") for part in sent):
            left.set()

    given = {"content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    serving = asyncio.create_task(app(scope, receive, send))
    leaving = asyncio.create_task(left.wait())
    try:
        await asyncio.wait((serving, leaving), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        async with asyncio.timeout(patience if left.is_set() else 0):
            await serving
    finally:
        leaving.cancel()
    return sent


def run(work: Callable[[], Coroutine[Any, Any, T]], *, patience: float) -> T:
    """The result of ``work`` in an event loop of its own.

    A handler that blocks the loop fails the test after ``patience`` seconds, where it would hang otherwise.
    """
    outcome: Future[T] = Future()

    def in_loop() -> None:
        try:
            outcome.set_result(asyncio.run(work()))
        except BaseException as exc:
            outcome.set_exception(exc)

    # Ends with pytest, should the loop stay blocked for ever.
    threading.Thread(target=in_loop, daemon=True).start()
    try:
        return outcome.result(patience)
    except TimeoutError:
        if outcome.done():
            raise
        pytest.fail(f"no answer within {patience} s: a handler waits for ever, or blocks the event loop")


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Decorator of an ``async def`` test of a suite: runs in a loop of its own, for ``self.patience`` seconds at
    most. Needs no plugin of pytest."""

    @functools.wraps(test)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        run(lambda: test(self, *args, **kwargs), patience=self.patience)

    return wrapped
