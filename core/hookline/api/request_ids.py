"""RequestIdMiddleware: one id for a request, its log lines and its answer."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hookline.observability.logging import request_scope

HEADER = "x-request-id"
_SAFE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIdMiddleware:
    """Takes the client's ``x-request-id`` if it is harmless, makes one otherwise, and sends it back.

    Also adds to the answer what handlers put into ``request.state.answer_headers``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _SAFE.fullmatch(given) else uuid.uuid4().hex
        # Handlers write into this very dict through `request.state`.
        state = scope["state"] = dict(scope.get("state") or {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                for name, value in state.get("answer_headers", {}).items():
                    headers[name] = value
            await send(message)

        with request_scope(request_id):
            await self.app(scope, receive, send_with_headers)
