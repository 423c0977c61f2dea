"""NativeFamily: the routes of Hookline's own API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from hookline.api.auth import require_admin
from hookline.api.bodies import RequestBody, check_body, json_answer
from hookline.api.sse import EventStream
from hookline.api.tasks import answer
from hookline.errors import RequestError
from hookline.interfaces.api import ApiFamily
from hookline_api.native.batch import encode_requests, generate_requests
from hookline_api.native.bodies import (
    AbortBody,
    DetokenizeBody,
    EncodeBody,
    GenerateBody,
    MemoryBody,
    ParseFunctionCallBody,
    SeparateReasoningBody,
    TokenizeBody,
    UpdateWeightsBody,
)
from hookline_api.native.generate import GenerateAnswer, embeddings
from hookline_api.native.parsing import parse_function_call, separate_reasoning
from hookline_api.prompts import read_texts, read_token_lists

_MEMORY_TAGS = ("kv", "weights")
#: SGLang's names.
_TAG_ALIASES = {"kv_cache": "kv"}


class NativeFamily(ApiFamily):
    """Generation, embeddings, tokens, health, metrics and control."""

    def router(self) -> APIRouter:
        router = APIRouter()
        for path, handler in (
            ("/generate", self.generate),
            ("/encode", self.encode),
            ("/tokenize", self.tokenize),
            ("/detokenize", self.detokenize),
            ("/parse_function_call", self.parse_function_call),
            ("/separate_reasoning", self.separate_reasoning),
            ("/abort_request", self.abort_request),
            ("/flush_cache", self.flush_cache),
            ("/update_weights_from_disk", self.update_weights),
            ("/release_memory_occupation", self.release_memory),
            ("/resume_memory_occupation", self.resume_memory),
        ):
            router.add_api_route(path, handler, methods=["POST"], response_model=None)
        for path, handler in (
            ("/live", self.live),
            ("/ready", self.ready),
            ("/health", self.health),
            ("/metrics", self.metrics),
            ("/server_info", self.server_info),
            ("/plugins", self.plugins),
        ):
            router.add_api_route(path, handler, methods=["GET"], response_model=None)
        return router

    # --- work ---

    async def generate(self, request: Request, body: GenerateBody) -> Response:
        """Continue one prompt or several. Streamed events hold the text so far, not the new part alone."""
        await self._check(request, body)
        requests, is_batch = generate_requests(body, self.serving)
        reply = GenerateAnswer(self.serving, requests, is_batch=is_batch, with_token_text=body.return_text_in_logprobs)
        if body.stream:
            return EventStream(reply.events())
        return await answer(request, reply.whole())

    async def encode(self, request: Request, body: EncodeBody) -> Response:
        """The embedding of one prompt or of several."""
        await self._check(request, body)
        requests, is_batch = encode_requests(body)

        async def vectors() -> Any:
            items = await embeddings(self.serving, requests)
            return items if is_batch else items[0]

        return await answer(request, vectors())

    async def tokenize(self, request: Request, body: TokenizeBody) -> Response:
        """Token ids of a text, or of each text of a list."""
        await self._check(request, body)
        texts, is_batch = read_texts(body.text if body.prompt is None else body.prompt, field="prompt")
        tokens = [await self.serving.tokenize(text, add_special_tokens=body.add_special_tokens) for text in texts]
        counts = [len(ids) for ids in tokens]
        return json_answer(
            {
                "tokens": tokens if is_batch else tokens[0],
                "count": counts if is_batch else counts[0],
                "max_model_len": self.serving.models()[0].max_model_len,
            }
        )

    async def detokenize(self, request: Request, body: DetokenizeBody) -> Response:
        """The text of token ids, or of each list of a list."""
        await self._check(request, body)
        lists, is_batch = read_token_lists(body.input_ids if body.tokens is None else body.tokens, field="tokens")
        texts = [await self.serving.detokenize(ids, skip_special_tokens=body.skip_special_tokens) for ids in lists]
        return json_answer({"text": texts if is_batch else texts[0]})

    async def parse_function_call(self, request: Request, body: ParseFunctionCallBody) -> Response:
        """The tool calls in a text that a model wrote."""
        await self._check(request, body)
        return json_answer(parse_function_call(self.serving, body))

    async def separate_reasoning(self, request: Request, body: SeparateReasoningBody) -> Response:
        """The reasoning in a text that a model wrote, and the rest of it."""
        await self._check(request, body)
        return json_answer(separate_reasoning(self.serving, body))

    # --- control ---

    async def abort_request(self, request: Request, body: AbortBody) -> Response:
        """Abort one request by its id, or all of them, for which the caller needs the rights of control routes."""
        await self._check(request, body)
        if body.abort_all:
            require_admin(request)
        elif body.rid is None:
            raise RequestError("give the rid of a request, or abort_all", param="rid")
        count = await self.serving.abort(body.rid, all_requests=body.abort_all)
        return json_answer({"success": True, "num_aborted": count})

    async def flush_cache(self) -> Response:
        """Empty the prefix cache. An error while requests run, since they use it."""
        return await self._control("flush_cache")

    async def update_weights(self, request: Request, body: UpdateWeightsBody) -> Response:
        """Load other weights of the same architecture. If that fails the old ones stay."""
        await self._check(request, body)
        return await self._control("update_weights", path=body.model_path)

    async def release_memory(self, request: Request, body: MemoryBody | None = None) -> Response:
        """Give device memory back while there is nothing to do."""
        return await self._memory("release_memory", request, body)

    async def resume_memory(self, request: Request, body: MemoryBody | None = None) -> Response:
        """Take device memory again."""
        return await self._memory("resume_memory", request, body)

    # --- state ---

    async def live(self) -> Response:
        """The process answers."""
        return json_answer({"status": "ok"})

    async def ready(self) -> Response:
        """Whether requests are served now (503 with the reason if not)."""
        is_ready, reason = self.serving.readiness()
        return json_answer({"ready": is_ready, "reason": reason}, 200 if is_ready else 503)

    async def health(self) -> Response:
        """Whether work makes progress (503 with the reason if not)."""
        is_healthy, reason = self.serving.health()
        return json_answer({"healthy": is_healthy, "reason": reason}, 200 if is_healthy else 503)

    async def metrics(self) -> Response:
        """Metrics for Prometheus."""
        content, media_type = self.serving.metrics()
        return Response(content, headers={"content-type": media_type})

    async def server_info(self) -> Response:
        """What serves here, with which settings, and why these."""
        return json_answer(self.serving.server_info())

    async def plugins(self) -> Response:
        """Plugins, what was chosen of them, and what was refused for which reasons."""
        return json_answer(self.serving.plugin_report())

    # --- below ---

    async def _check(self, request: Request, body: RequestBody) -> None:
        await check_body(request, body, strict=self.serving.config.server.strict_requests)

    async def _memory(self, method: str, request: Request, body: MemoryBody | None) -> Response:
        tags = list(_MEMORY_TAGS)
        if body is not None:
            await self._check(request, body)
            if body.tags is not None:
                tags = [_TAG_ALIASES.get(tag, tag) for tag in body.tags]
        return await self._control(method, tags=tags)

    async def _control(self, method: str, **arguments: Any) -> Response:
        data = await self.serving.control(method, **arguments)
        return json_answer({"success": True, "message": "", **data})
