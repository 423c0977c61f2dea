"""OpenAIFamily: the routes of the OpenAI API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from hookline.api.bodies import RequestBody, check_body, json_answer
from hookline.api.sse import EventStream
from hookline.api.tasks import answer
from hookline.errors import NotServedError
from hookline.interfaces.api import ApiContext, ApiFamily, ModelCard
from hookline_api.openai.bodies import ChatBody, CompletionBody, EmbeddingBody
from hookline_api.openai.chat import ChatAnswer
from hookline_api.openai.completions import CompletionAnswer
from hookline_api.openai.embeddings import check_embedding, embed
from hookline_api.options import ApiOptions


class OpenAIFamily(ApiFamily):
    """Models, chat, completions and embeddings."""

    def __init__(self, context: ApiContext) -> None:
        super().__init__(context)
        self._options = ApiOptions() if self.options is None else self.options

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1")
        router.add_api_route("/models", self.models, methods=["GET"], response_model=None)
        router.add_api_route("/models/{model:path}", self.model, methods=["GET"], response_model=None)
        for path, handler in (
            ("/chat/completions", self.chat),
            ("/completions", self.completions),
            ("/embeddings", self.embeddings),
        ):
            router.add_api_route(path, handler, methods=["POST"], response_model=None)
        return router

    async def models(self) -> Response:
        """The model and its adapters."""
        return json_answer({"object": "list", "data": [_card(card) for card in self.serving.models()]})

    async def model(self, model: str) -> Response:
        """One model or adapter."""
        cards = self.serving.models()
        for card in cards:
            if card.id == model:
                return json_answer(_card(card))
        known = ", ".join(card.id for card in cards)
        raise NotServedError(f"the model '{model:.200}' is not served here (served: {known})", param="model")

    async def chat(self, request: Request, body: ChatBody) -> Response:
        """The next message of a chat, whole or streamed."""
        await self._check(request, body)
        reply = await ChatAnswer.prepare(self.serving, body, self._options.effort_tokens)
        if body.stream:
            return EventStream(reply.events())
        return await answer(request, reply.whole())

    async def completions(self, request: Request, body: CompletionBody) -> Response:
        """The continuation of one prompt or several, whole or streamed."""
        await self._check(request, body)
        reply = CompletionAnswer(self.serving, body)
        if body.stream:
            return EventStream(reply.events())
        return await answer(request, reply.whole())

    async def embeddings(self, request: Request, body: EmbeddingBody) -> Response:
        """Vectors of one text or several."""
        await self._check(request, body)
        check_embedding(self.serving, body)
        return await answer(request, embed(self.serving, body))

    async def _check(self, request: Request, body: RequestBody) -> None:
        await check_body(request, body, strict=self.serving.config.server.strict_requests)


def _card(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "hookline",
        "root": card.root,
        "parent": card.parent,
        "max_model_len": card.max_model_len,
    }
