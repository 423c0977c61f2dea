"""StreamedAnswer: what streamed answers of every format share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hookline.api.errors import describe
from hookline.api.tasks import ClientGone, until_disconnect


class StreamedAnswer(Response, ABC):
    """A streamed answer from a generator of pieces (bytes that are framed already, one frame or several at a
    time).

    The status is decided by the first step of the generator: an error there is an ordinary error answer.
    A later one is a frame with the error's body, as the family words it. When the client goes away the
    generator is closed, which aborts what it was waiting for.
    """

    #: The content type of the answer.
    content_type: ClassVar[str]
    #: Sent after the last frame, also after an error's.
    end: ClassVar[bytes] = b""

    def __init__(self, pieces: AsyncGenerator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces

    @staticmethod
    @abstractmethod
    def frame(value: Any) -> bytes:
        """One value as the format writes it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_disconnect(receive, self._send(scope, receive, send))
        except ClientGone:
            pass
        finally:
            await self._pieces.aclose()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        last = self.end
        has_started = False
        try:
            async for body in self._pieces:
                if not has_started:
                    has_started = True
                    await self._start(send)
                await _deliver(send, {"type": "http.response.body", "body": body, "more_body": True})
        except ClientGone:
            raise
        except Exception as exc:
            answer = describe(exc)
            if not has_started:
                await answer.response(scope)(scope, receive, send)
                return
            last = self.frame(answer.body_for(scope)) + self.end
        if not has_started:
            await self._start(send)
        await _deliver(send, {"type": "http.response.body", "body": last, "more_body": False})

    async def _start(self, send: Send) -> None:
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"cache-control", b"no-cache"),
            # nginx would otherwise collect the pieces.
            (b"x-accel-buffering", b"no"),
        ]
        await _deliver(send, {"type": "http.response.start", "status": 200, "headers": headers})


async def _deliver(send: Send, message: dict[str, Any]) -> None:
    try:
        await send(message)
    except OSError as exc:
        raise ClientGone from exc
