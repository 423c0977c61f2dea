"""Work for clients that may leave before it is done, and streams that are read side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hookline.api.bodies import json_answer

T = TypeVar("T")


class ClientGone(Exception):  # noqa: N818 - an event, not a fault
    """The client closed the connection; there is nobody to answer."""


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled as soon as the client goes away.

    ``receive`` is the request's, and its body must have been read. Raises ``ClientGone`` when the client
    left; ``work`` has ended by then.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        for task in (working, watching):
            task.cancel()
        # Both must have ended before the caller goes on, and their errors are the caller's only if it waited.
        await asyncio.gather(working, watching, return_exceptions=True)


async def answer(request: Request, work: Coroutine[Any, Any, Any]) -> Response:
    """The result of ``work`` as JSON, unless the client goes away first; then ``work`` is cancelled."""
    try:
        return json_answer(await until_disconnect(request.receive, work))
    except ClientGone:
        return _NoAnswer(status_code=499)


class _NoAnswer(Response):
    """For a client that has gone: sending would be an error."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass


async def side_by_side(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[tuple[int, T]]:
    """Items of all streams as they come, each with its stream's number.

    The first error ends it. However it ends, every stream is closed. At most one item of each stream waits
    to be taken, so that a slow reader slows the streams down.
    """
    if len(streams) == 1:
        try:
            async for item in streams[0]:
                yield 0, item
        finally:
            await streams[0].aclose()
        return
    steps = {asyncio.ensure_future(_step(stream)): index for index, stream in enumerate(streams)}
    try:
        while steps:
            done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            for step in sorted(done, key=steps.__getitem__):
                index = steps.pop(step)
                for item in step.result():
                    steps[asyncio.ensure_future(_step(streams[index]))] = index
                    yield index, item
    finally:
        for step in steps:
            step.cancel()
        await asyncio.gather(*steps, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


async def _step(stream: AsyncGenerator[T]) -> list[T]:
    """The next item alone, or nothing at the end."""
    try:
        return [await anext(stream)]
    except StopAsyncIteration:
        return []


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
