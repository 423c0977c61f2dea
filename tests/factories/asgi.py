"""A client that goes away in the middle of a request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.types import Message


async def post_and_leave(app: Callable[..., Any], path: str, body: Any, *, leave: asyncio.Event) -> list[Message]:
    """Post ``body``, close the connection when ``leave`` is set, and give what the application sent.

    Fails if the application does not end by itself soon after.
    """
    sent: list[Message] = []
    is_first = True

    async def receive() -> Message:
        nonlocal is_first
        if is_first:
            is_first = False
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if leave.is_set():
            raise OSError("the client has gone")
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return sent
