"""Server-sent events: ``data: {json}``, a blank line, and ``data: [DONE]`` at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from hookline.api.errors import describe
from hookline.api.tasks import ClientGone, until_disconnect

DONE = b"data: [DONE]\n\n"
_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        # nginx would otherwise collect the events.
        (b"x-accel-buffering", b"no"),
    ],
}


def event(value: Any) -> bytes:
    """One event. ``value`` is built of plain dicts, lists, strings and numbers; NaN becomes null."""
    return b"data: " + orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS) + b"\n\n"


class EventStream(Response):
    """A streamed answer from a generator of events (bytes that ``event`` gave, one or several at a time).

    The status is decided by the first step of the generator: an error there is an ordinary error answer.
    A later one is an event with an error object. When the client goes away the generator is closed, which
    aborts what it was waiting for.
    """

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_disconnect(receive, self._send(scope, receive, send))
        except ClientGone:
            pass
        finally:
            await self._events.aclose()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        last = DONE
        has_started = False
        try:
            async for body in self._events:
                if not has_started:
                    has_started = True
                    await _deliver(send, dict(_START))
                await _deliver(send, {"type": "http.response.body", "body": body, "more_body": True})
        except ClientGone:
            raise
        except Exception as exc:
            answer = describe(exc)
            if not has_started:
                await answer.response()(scope, receive, send)
                return
            last = event(answer.body()) + DONE
        if not has_started:
            await _deliver(send, dict(_START))
        await _deliver(send, {"type": "http.response.body", "body": last, "more_body": False})


async def _deliver(send: Send, message: Message) -> None:
    try:
        await send(message)
    except OSError as exc:
        raise ClientGone from exc
