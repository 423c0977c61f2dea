"""One chat, whole and streamed, over an application that many examples share."""

from __future__ import annotations

from functools import cache
from typing import Any

from hookline.testkit.fake_serving import Reply
from hookline.testkit.in_process import http
from tests.factories.fake_serving import ChatServing, make_app
from tests.factories.typed_events import read_typed_events


@cache
def _shared() -> tuple[ChatServing, Any]:
    """A fake engine and the application over it."""
    serving = ChatServing()
    return serving, make_app(serving)


async def whole_and_streamed(path: str, text: str, pieces: list[str], body: dict[str, Any]) -> tuple[Any, list[Any]]:
    """The whole and the streamed answer of a route with typed events to one request."""
    serving, app = _shared()
    async with http(app) as client:
        serving.replies = [Reply(pieces=[text])]
        whole = await client.post(path, json=body)
        serving.replies = [Reply(pieces=pieces)]
        streamed = await client.post(path, json={**body, "stream": True})
    assert whole.status_code == 200, whole.text
    return whole.json(), read_typed_events(streamed)
