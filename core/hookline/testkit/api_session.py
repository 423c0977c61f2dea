"""ApiSession: a family that serves in process over a fake engine, and a client of it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
from fastapi import FastAPI

from hookline.api.app import create_app
from hookline.api.families import LoadedFamily
from hookline.config.schema import HooklineConfig, ServerConfig
from hookline.interfaces.api import Serving
from hookline.testkit.api_calls import ApiCall
from hookline.testkit.fake_serving import FakeServing
from hookline.testkit.in_process import http


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSession:
    """A family that serves, and a client of it."""

    app: FastAPI
    serving: FakeServing
    client: httpx.AsyncClient
    #: Names of ``Serving`` that were used from other threads.
    strays: set[str]

    @classmethod
    @asynccontextmanager
    async def open(
        cls, family: LoadedFamily, serving: FakeServing, *, key: str | None = None, **server: Any
    ) -> AsyncIterator[ApiSession]:
        """``key`` is what the client sends, ``server`` are settings of the section ``server``."""
        serving.config = HooklineConfig(server=ServerConfig(**server))
        watch = _Watch(serving)
        app = create_app(cast(Serving, watch), [family], serving.config)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with http(app, headers=headers, timeout=None) as client:
            yield cls(app=app, serving=serving, client=client, strays=watch.strays)

    async def ask(self, call: ApiCall, request_id: str = "") -> httpx.Response:
        """Make an example call."""
        headers = {"x-request-id": request_id} if request_id else {}
        request = call.with_body(call.body)
        return await self.client.request(**{**request, "headers": {**request["headers"], **headers}})

    async def expect(self, call: ApiCall) -> httpx.Response:
        """Make an example call, whose answer must be as it says."""
        answer = await self.ask(call)
        assert answer.status_code == call.status, f"{call}: {answer.text}"
        if call.check is not None:
            call.check(answer)
        return answer


class _Watch:
    """A ``Serving`` that notes what is used of it in other threads than its own."""

    def __init__(self, serving: FakeServing) -> None:
        self._serving = serving
        self._thread = threading.get_ident()
        self.strays: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if threading.get_ident() != self._thread:
            self.strays.add(name)
        return getattr(self._serving, name)
