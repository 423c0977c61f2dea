"""AnthropicFamily: the routes of the Messages API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from hookline.api.bodies import IGNORED_HEADER, RequestBody, check_body
from hookline.api.errors import ErrorAnswer
from hookline.api.tasks import answer
from hookline.errors import RequestError
from hookline.interfaces.api import ApiFamily
from hookline_api.anthropic.bodies import ConversationBody, MessagesBody
from hookline_api.anthropic.messages import MessagesAnswer, count_tokens
from hookline_api.typed_events import TypedEventStream

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class AnthropicFamily(ApiFamily):
    """Messages, and the counting of their tokens."""

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/messages")
        router.add_api_route("", self.messages, methods=["POST"], response_model=None)
        router.add_api_route("/count_tokens", self.count_tokens, methods=["POST"], response_model=None)
        return router

    def error_body(self, error: ErrorAnswer) -> Any:
        """Anthropic's error object."""
        kind = _ERROR_TYPES.get(error.status_code, "api_error" if error.status_code >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": error.message}}

    async def messages(self, request: Request, body: MessagesBody) -> Response:
        """The next message of a conversation, whole or streamed."""
        await self._check(request, body)
        reply = await MessagesAnswer.prepare(self.serving, body)
        self._report(request, reply.ignored)
        if body.stream:
            return TypedEventStream(reply.events())
        return await answer(request, reply.whole())

    async def count_tokens(self, request: Request, body: ConversationBody) -> Response:
        """How many tokens a conversation has as a prompt."""
        await self._check(request, body)
        return await answer(request, count_tokens(self.serving, body))

    async def _check(self, request: Request, body: RequestBody) -> None:
        await check_body(request, body, strict=self.serving.config.server.strict_requests)

    def _report(self, request: Request, ignored: tuple[str, ...]) -> None:
        """Tell of fields that this server cannot heed, as of those that nobody reads."""
        if not ignored:
            return
        if self.serving.config.server.strict_requests:
            raise RequestError(
                f"{ignored[0]} has no effect here: this server has no reasoning parser", param="thinking"
            )
        headers = getattr(request.state, "answer_headers", {})
        told = [headers[IGNORED_HEADER]] if IGNORED_HEADER in headers else []
        request.state.answer_headers = {**headers, IGNORED_HEADER: ", ".join([*told, *ignored])}
