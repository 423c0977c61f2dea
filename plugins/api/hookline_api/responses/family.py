"""ResponsesFamily: the routes of the Responses API."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from hookline.api.bodies import check_body, json_answer
from hookline.api.tasks import answer
from hookline.errors import RequestError
from hookline.interfaces.api import ApiContext, ApiFamily
from hookline_api.options import ApiOptions
from hookline_api.responses.answer import ResponseAnswer
from hookline_api.responses.bodies import ResponsesBody
from hookline_api.responses.store import ResponseStore, StoredResponse
from hookline_api.typed_events import TypedEventStream


class ResponsesFamily(ApiFamily):
    """Responses: made, and kept for later."""

    def __init__(self, context: ApiContext) -> None:
        super().__init__(context)
        self._options = ApiOptions() if self.options is None else self.options
        self._store = ResponseStore(self._options)

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/responses")
        router.add_api_route("", self.create, methods=["POST"], response_model=None)
        router.add_api_route("/{response_id}", self.retrieve, methods=["GET"], response_model=None)
        router.add_api_route("/{response_id}", self.delete, methods=["DELETE"], response_model=None)
        router.add_api_route("/{response_id}/cancel", self.cancel, methods=["POST"], response_model=None)
        return router

    async def create(self, request: Request, body: ResponsesBody) -> Response:
        """Answer an input, whole or streamed."""
        await check_body(request, body, strict=self.serving.config.server.strict_requests)
        reply = await ResponseAnswer.prepare(self.serving, self._store, body, self._options.effort_tokens)
        if body.stream:
            return TypedEventStream(reply.events())
        return await answer(request, reply.whole())

    async def retrieve(self, response_id: str, stream: bool = False) -> Response:
        """A response that was stored."""
        if stream:
            raise RequestError("stored responses are not streamed again; leave out stream", param="stream")
        return json_answer(self._stored(response_id).response)

    async def delete(self, response_id: str) -> Response:
        """Forget a response."""
        self._stored(response_id)
        self._store.remove(response_id)
        return json_answer({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, response_id: str) -> Response:
        """Always an error: only responses that are made in the background can be cancelled, and none is."""
        self._stored(response_id)
        raise RequestError(
            "only responses made in the background can be cancelled, which this server does not do; "
            "close the connection of a response to end it",
            param="response_id",
        )

    def _stored(self, response_id: str) -> StoredResponse:
        stored = self._store.get(response_id)
        if stored is None:
            raise RequestError(
                f"there is no response {response_id!r:.80}: it was not stored, is too old, or was deleted",
                param="response_id",
                code="not_found",
                status_code=404,
            )
        return stored
