"""An API family with just enough routes to drive a server from a test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from hookline.interfaces.api import ApiFamily, GenerateRequest

PATHS = ["/generate", "/abort/{rid}", "/control/{method}", "/ready", "/health", "/metrics", "/info"]


class EchoFamily(ApiFamily):
    """Every answer is a stream of JSON lines: {"text", "ids", "index", "finish"} or {"error"}."""

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/generate", self.generate, methods=["POST"], response_model=None)
        router.add_api_route("/abort/{rid}", self.abort, methods=["POST"])
        router.add_api_route("/control/{method}", self.control, methods=["POST"])
        router.add_api_route("/ready", self.ready, response_model=None)
        router.add_api_route("/health", self.health, response_model=None)
        router.add_api_route("/metrics", self.metrics, response_model=None)
        router.add_api_route("/info", self.info)
        return router

    async def generate(self, request: Request) -> Response:
        body = await request.json()
        params = self.serving.default_sampling_params(body.get("params", {}))
        stream = self.serving.generate(
            GenerateRequest(
                prompt=body.get("prompt"),
                input_ids=body.get("ids"),
                sampling_params=params,
                rid=body.get("rid"),
                stream=True,
            )
        )
        first = await anext(stream)

        async def lines() -> AsyncIterator[bytes]:
            async with aclosing(stream):
                yield _line(first)
                try:
                    async for chunk in stream:
                        yield _line(chunk)
                except Exception as exc:
                    yield json.dumps({"error": str(exc)}).encode() + b"\n"

        return StreamingResponse(lines())

    async def abort(self, rid: str) -> dict[str, Any]:
        return {"aborted": await self.serving.abort(rid)}

    async def control(self, method: str) -> dict[str, Any]:
        return await self.serving.control(method)

    async def ready(self) -> Response:
        is_ready, reason = self.serving.readiness()
        return JSONResponse({"reason": reason}, status_code=200 if is_ready else 503)

    async def health(self) -> Response:
        is_healthy, reason = self.serving.health()
        return JSONResponse({"reason": reason}, status_code=200 if is_healthy else 503)

    async def metrics(self) -> Response:
        body, content_type = self.serving.metrics()
        return Response(body, media_type=content_type)

    async def info(self) -> dict[str, Any]:
        return self.serving.server_info()


def _line(chunk: Any) -> bytes:
    finish = chunk.finish_reason
    values = {
        "text": chunk.text,
        "ids": chunk.token_ids,
        "index": chunk.index,
        "finish": None if finish is None else [finish.type, finish.message],
    }
    return json.dumps(values).encode() + b"\n"
