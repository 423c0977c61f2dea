"""OllamaFamily: the routes of the Ollama API."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from hookline.api.bodies import RequestBody, check_body, json_answer
from hookline.api.choice import Choice
from hookline.api.errors import ErrorAnswer
from hookline.api.ndjson import LineStream
from hookline.api.tasks import answer, side_by_side
from hookline.errors import RequestError
from hookline.interfaces.api import ApiContext, ApiFamily, GenerateRequest
from hookline.messages.requests import PoolingRequest
from hookline.sampling_params import SamplingParams
from hookline_ollama.answers import RunAnswer, timestamp
from hookline_ollama.bodies import ChatBody, EmbedBody, GenerateBody, RunBody, ShowBody
from hookline_ollama.catalog import processes, served_name, show, tags
from hookline_ollama.options import Options
from hookline_ollama.prompts import chat_answer, generate_answer


class OllamaFamily(ApiFamily):
    """What Ollama's clients call of a model that is there; models are not pulled, made or deleted."""

    def __init__(self, context: ApiContext) -> None:
        super().__init__(context)
        assert isinstance(context.options, Options)
        self._version = context.options.version

    def router(self) -> APIRouter:
        router = APIRouter()
        for path, post in (
            ("/api/chat", self.chat),
            ("/api/generate", self.generate),
            ("/api/embed", self.embed),
            ("/api/show", self.show),
        ):
            router.add_api_route(path, post, methods=["POST"], response_model=None)
        for path, get in (
            ("/api/tags", self.tags),
            ("/api/ps", self.ps),
            ("/api/version", self.version),
        ):
            router.add_api_route(path, get, methods=["GET"], response_model=None)
        router.add_api_route("/", self.root, methods=["GET", "HEAD"], response_model=None)
        return router

    def error_body(self, error: ErrorAnswer) -> Any:
        """Ollama's clients print ``error``."""
        return {"error": error.message}

    async def chat(self, request: Request, body: ChatBody) -> Response:
        """The next message of a chat."""
        await self._check(request, body)
        if not body.messages:
            return self._loaded(body, {"message": {"role": "assistant", "content": ""}})
        return await self._run(request, body, await chat_answer(self.serving, body))

    async def generate(self, request: Request, body: GenerateBody) -> Response:
        """The answer to a prompt."""
        await self._check(request, body)
        if not body.prompt:
            return self._loaded(body, {"response": ""})
        return await self._run(request, body, await generate_answer(self.serving, body))

    async def embed(self, request: Request, body: EmbedBody) -> Response:
        """Vectors of one text or several."""
        await self._check(request, body)
        return await answer(request, self._embed(body))

    async def show(self, request: Request, body: ShowBody) -> Response:
        """What is known of a model."""
        await self._check(request, body)
        if not (body.model or body.name):
            raise RequestError("'model' is missing", param="model")
        return json_answer(show(self.serving, body.model or body.name))

    async def tags(self) -> Response:
        """The models that there are."""
        return json_answer(tags(self.serving))

    async def ps(self) -> Response:
        """The models in memory: the same."""
        return json_answer(processes(self.serving))

    async def version(self) -> Response:
        """The version of Ollama whose API this is."""
        return json_answer({"version": self._version})

    async def root(self) -> Response:
        """Clients look here for whether the server runs."""
        return PlainTextResponse("Ollama is running")

    # --- below ---

    async def _check(self, request: Request, body: RequestBody) -> None:
        await check_body(request, body, strict=self.serving.config.server.strict_requests)

    async def _run(self, request: Request, body: RunBody, reply: RunAnswer) -> Response:
        return LineStream(reply.lines()) if body.is_streamed else await answer(request, reply.whole())

    def _loaded(self, body: RunBody, empty: dict[str, Any]) -> Response:
        """For requests that only load the model, or let it go: it is there, and stays."""
        served_name(self.serving, body.model)
        reason = "unload" if body.unloads else "load"
        return json_answer(
            {"model": body.model, "created_at": timestamp(), **empty, "done": True, "done_reason": reason}
        )

    async def _embed(self, body: EmbedBody) -> dict[str, Any]:
        started = time.perf_counter_ns()
        name = served_name(self.serving, body.model)
        limit = None if body.truncate is False else self.serving.models()[0].max_model_len
        requests = []
        for text in [body.input] if isinstance(body.input, str) else body.input:
            ids = await self.serving.tokenize(text)
            requests.append(
                GenerateRequest(
                    input_ids=ids[:limit],
                    sampling_params=SamplingParams(max_new_tokens=0),
                    pooling=PoolingRequest(dimensions=body.dimensions),
                    model=name,
                )
            )
        choices = [Choice() for _ in requests]
        async with aclosing(side_by_side([self.serving.generate(request) for request in requests])) as chunks:
            async for number, chunk in chunks:
                choices[number].add(chunk)
        return {
            "model": body.model,
            "embeddings": [choice.embedding for choice in choices],
            "total_duration": time.perf_counter_ns() - started,
            "load_duration": 0,
            "prompt_eval_count": sum(choice.stats.prompt_tokens for choice in choices),
        }
