from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from hookline.api.tasks import ClientGone, side_by_side, until_disconnect


class _Client:
    """Leaves when told."""

    def __init__(self) -> None:
        self.has_left = asyncio.Event()

    async def receive(self) -> Message:
        await self.has_left.wait()
        return {"type": "http.disconnect"}


async def test_work_is_done_while_the_client_waits() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await until_disconnect(_Client().receive, work()) == "done"


async def test_work_is_cancelled_and_over_when_the_client_leaves() -> None:
    client, log = _Client(), []

    async def work() -> None:
        client.has_left.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("cleaned up")

    with pytest.raises(ClientGone):
        await until_disconnect(client.receive, work())
    assert log == ["cleaned up"]


async def test_errors_of_the_work_come_through() -> None:
    async def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await until_disconnect(_Client().receive, work())


class _Stream:
    """Counts up; knows whether it was closed."""

    def __init__(self, *items: int | Exception) -> None:
        self._items = items
        self.is_closed = False

    async def read(self) -> AsyncGenerator[int]:
        try:
            for item in self._items:
                await asyncio.sleep(0)
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.is_closed = True


@pytest.mark.parametrize("count", [1, 3])
async def test_all_items_of_all_streams_come_in_order(count: int) -> None:
    streams = [_Stream(*range(5 * number, 5 * number + 5)) for number in range(count)]
    seen: dict[int, list[int]] = {}
    async for number, item in side_by_side([stream.read() for stream in streams]):
        seen.setdefault(number, []).append(item)
    assert seen == {number: list(range(5 * number, 5 * number + 5)) for number in range(count)}
    assert all(stream.is_closed for stream in streams)


async def test_a_short_stream_does_not_end_the_others() -> None:
    streams = [_Stream(), _Stream(1), _Stream(2, 3, 4)]
    items = [pair async for pair in side_by_side([stream.read() for stream in streams])]
    assert sorted(items) == [(1, 1), (2, 2), (2, 3), (2, 4)]


@pytest.mark.parametrize("count", [1, 3])
async def test_an_error_or_the_reader_leaving_closes_every_stream(count: int) -> None:
    failing = [_Stream(1, ValueError("mine")), *(_Stream(*range(100)) for _ in range(count - 1))]
    with pytest.raises(ValueError, match="mine"):
        async for _ in side_by_side([stream.read() for stream in failing]):
            pass
    assert all(stream.is_closed for stream in failing)

    left = [_Stream(*range(100)) for _ in range(count)]
    reader = side_by_side([stream.read() for stream in left])
    await anext(reader)
    await reader.aclose()
    assert all(stream.is_closed for stream in left)
