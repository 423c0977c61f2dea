"""LimitsMiddleware: how large a request may be, and how many there may be at once."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hookline.api.errors import describe
from hookline.api.paths import PathSet
from hookline.errors import OverloadedError


class LimitsMiddleware:
    """Refuses a request body above ``max_bytes`` without reading it all (413), and requests beyond
    ``max_concurrent`` in flight (503). ``uncounted`` paths are served in any case: health must answer."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_concurrent: int, uncounted: Collection[str] = ()) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._max_concurrent = max_concurrent
        self._uncounted = PathSet(uncounted)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._uncounted:
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await describe(refusal).response(scope)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self.app(scope, self._counted(receive), send)
        finally:
            self._in_flight -= 1

    def _refusal(self, scope: Scope) -> Exception | None:
        if self._in_flight >= self._max_concurrent:
            return OverloadedError(
                f"{self._in_flight} requests are in flight, as many as this server takes "
                "(max_concurrent_requests); try again later"
            )
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            return self._too_large(f"{length} bytes")
        return None

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max_bytes:
                    raise self._too_large("more")
            return message

        return counted

    def _too_large(self, size: str) -> HTTPException:
        # An HTTPException, since FastAPI turns any other error while it reads a body into a 400.
        return HTTPException(
            413,
            f"the request body has {size}; at most {self._max_bytes} bytes are allowed (max_request_bytes)",
            headers={"connection": "close"},
        )
