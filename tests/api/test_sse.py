from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.types import Message

from hookline.api.sse import EventStream, event
from hookline.errors import RequestError


class _Connection:
    """The server's side of one request: collects what is sent, and can lose its client."""

    def __init__(self, *, break_after: int | None = None) -> None:
        self.messages: list[Message] = []
        self.has_left = asyncio.Event()
        self._break_after = break_after

    async def receive(self) -> Message:
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._break_after is not None and len(self.messages) >= self._break_after:
            raise OSError("connection lost")
        self.messages.append(message)

    async def run(self, events: AsyncGenerator[bytes]) -> None:
        await EventStream(events)({"type": "http"}, self.receive, self.send)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


async def test_events_are_framed_and_end_with_done() -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield event({"a": "é\n"})
        yield event({"b": float("nan")}) + event({"c": [1]})

    connection = _Connection()
    await connection.run(events())
    start = connection.messages[0]
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    expected = 'data: {"a":"é\\n"}\n\ndata: {"b":null}\n\ndata: {"c":[1]}\n\ndata: [DONE]\n\n'
    assert connection.body == expected.encode()
    assert [message.get("more_body") for message in connection.messages[1:]] == [True, True, False]


async def test_an_error_before_the_first_event_is_an_ordinary_error() -> None:
    async def events() -> AsyncGenerator[bytes]:
        raise RequestError("too long", param="prompt", code="context_length_exceeded")
        yield b""

    connection = _Connection()
    await connection.run(events())
    assert connection.messages[0]["status"] == 400
    assert json.loads(connection.body)["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("error", "message"), [(RequestError("late"), "late"), (KeyError("x"), "the server failed on this request")]
)
async def test_a_later_error_is_an_event_before_done(error: Exception, message: str) -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield event({"a": 1})
        raise error

    connection = _Connection()
    await connection.run(events())
    *_, last, done, rest = connection.body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert message in json.loads(last.removeprefix("data: "))["error"]["message"]


async def test_a_stream_without_events_is_done() -> None:
    async def events() -> AsyncGenerator[bytes]:
        return
        yield b""

    connection = _Connection()
    await connection.run(events())
    assert connection.messages[0]["status"] == 200
    assert connection.body == b"data: [DONE]\n\n"


async def _endless(log: list[str], reached: asyncio.Event) -> AsyncGenerator[bytes]:
    try:
        yield event(1)
        reached.set()
        await asyncio.Event().wait()
    finally:
        log.append("closed")


async def test_the_generator_is_closed_when_the_client_leaves_while_it_waits() -> None:
    connection, log, reached = _Connection(), list[str](), asyncio.Event()
    running = asyncio.create_task(connection.run(_endless(log, reached)))
    await reached.wait()
    connection.has_left.set()
    await running
    assert log == ["closed"]
    assert b"[DONE]" not in connection.body


async def test_the_generator_is_closed_when_the_connection_breaks_while_it_is_written_to() -> None:
    log: list[str] = []

    async def events() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield event(1)
        finally:
            log.append("closed")

    await _Connection(break_after=3).run(events())
    assert log == ["closed"]


async def test_an_os_error_of_the_work_is_not_taken_for_a_lost_connection() -> None:
    async def events() -> AsyncGenerator[Any]:
        yield event(1)
        raise FileNotFoundError("gone")

    connection = _Connection()
    await connection.run(events())
    assert b"server failed" in connection.body


async def test_the_generator_is_closed_when_the_server_stops() -> None:
    connection, log, reached = _Connection(), list[str](), asyncio.Event()
    running = asyncio.create_task(connection.run(_endless(log, reached)))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert log == ["closed"]
