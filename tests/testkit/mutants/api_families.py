"""Broken API families. Each class of tests names the test that must fail."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar

import httpx
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from hookline.api.bodies import RequestBody, check_body, json_answer
from hookline.api.choice import Choice
from hookline.api.ndjson import LineStream, line
from hookline.api.tasks import answer
from hookline.errors import RequestError
from hookline.interfaces.api import ApiFamily, ApiFamilySpec, GenerateRequest
from hookline.testkit.api_calls import ApiCall, read_ndjson
from hookline.testkit.api_families import ApiFamilySuite


class CompleteBody(RequestBody):
    prompt: str
    stream: bool = False


class Sound(ApiFamily):
    """The family that the others break."""

    paths: ClassVar[tuple[str, ...]] = ("/broken/complete", "/broken/info")

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/broken/complete", self.complete, methods=["POST"], response_model=None)
        router.add_api_route("/broken/info", self.info, methods=["GET"], response_model=None)
        return router

    async def complete(self, request: Request, body: CompleteBody) -> Response:
        await check_body(request, body, strict=self.serving.config.server.strict_requests)
        wish = self.wish(body)
        return LineStream(self.pieces(wish)) if body.stream else await answer(request, self.whole(wish))

    async def info(self) -> Response:
        return json_answer({"models": [card.id for card in self.serving.models()]})

    def wish(self, body: CompleteBody) -> GenerateRequest:
        params = self.serving.default_sampling_params({}, max_new_tokens=128)
        return GenerateRequest(prompt=body.prompt, sampling_params=params, stream=body.stream)

    async def whole(self, wish: GenerateRequest) -> Any:
        choice = Choice()
        async with aclosing(self.serving.generate(wish)) as chunks:
            async for chunk in chunks:
                choice.add(chunk)
        return {"text": choice.text}

    async def pieces(self, wish: GenerateRequest) -> AsyncGenerator[bytes]:
        choice = Choice()
        async with aclosing(self.serving.generate(wish)) as chunks:
            async for chunk in chunks:
                choice.add(chunk)
                yield line({"text": chunk.text})


def _joined(reply: httpx.Response) -> str:
    return "".join(str(item["text"]) for item in read_ndjson(reply))


class Suite(ApiFamilySuite):
    patience = 1.0
    requests = (
        ApiCall(
            path="/broken/complete",
            body={"prompt": "Hi"},
            text=lambda reply: str(reply.json()["text"]),
            streamed=ApiCall(path="/broken/complete", body={"prompt": "Hi", "stream": True}, text=_joined),
        ),
        ApiCall(method="GET", path="/broken/info"),
    )


def spec(target: type[Sound], *more: str, **fields: Any) -> ApiFamilySpec:
    return ApiFamilySpec(
        name="broken",
        target=f"{__name__}:{target.__name__}",
        summary="broken on purpose",
        paths=(*target.paths, *more),
        **fields,
    )


class Promising(Sound):
    """Declares a path that it does not serve."""


class TestPromising(Suite):
    spec = spec(Promising, "/broken/embed")
    caught_by = "test_serves_the_paths_that_it_declares"


class Shadowing(Sound):
    """Answers for health as well, in words of its own."""

    def router(self) -> APIRouter:
        router = super().router()
        router.add_api_route("/health", self.info, methods=["GET"], response_model=None)
        return router


class TestShadowing(Suite):
    spec = spec(Shadowing, "/health")
    caught_by = "test_shadows_no_route_of_others"


class Catching(Sound):
    """A path with a parameter that matches those of another family."""

    def router(self) -> APIRouter:
        router = super().router()
        router.add_api_route("/v1/{task}", self.info, methods=["POST"], response_model=None)
        return router


class TestCatching(Suite):
    spec = spec(Catching, "/v1/{task}")
    caught_by = "test_shadows_no_route_of_others"


class Unguarded(Sound):
    """Anybody may empty the cache."""

    async def info(self) -> Response:
        await self.serving.control("flush_cache")
        return await super().info()


class TestUnguarded(Suite):
    spec = spec(Unguarded)
    caught_by = "test_control_needs_the_admin_key"


class Open(Sound):
    """Declares a path that generates as one that needs no key."""


class TestOpen(Suite):
    spec = spec(Open, open_paths=("/broken/complete",))
    caught_by = "test_open_paths_generate_nothing"


class Swallowing(Sound):
    """Tells errors in answers of status 200."""

    async def whole(self, wish: GenerateRequest) -> Any:
        try:
            return await super().whole(wish)
        except RequestError as exc:
            return {"error": exc.message}


class TestSwallowing(Suite):
    spec = spec(Swallowing)
    caught_by = "test_errors_of_the_request_have_their_status"


class Deaf(Sound):
    """Does not look at why a choice ended."""

    async def whole(self, wish: GenerateRequest) -> Any:
        async with aclosing(self.serving.generate(wish)) as chunks:
            return {"text": "".join([chunk.text async for chunk in chunks])}


class TestDeaf(Suite):
    spec = spec(Deaf)
    caught_by = "test_a_choice_that_the_engine_gives_up_is_an_error"


class Trusting(Sound):
    """Reads the body by hand."""

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/broken/complete", self.read, methods=["POST"], response_model=None)
        router.add_api_route("/broken/info", self.info, methods=["GET"], response_model=None)
        return router

    async def read(self, request: Request) -> Response:
        given = await request.json()
        return await self.complete(request, CompleteBody(prompt=given["prompt"], stream=given.get("stream", False)))


class TestTrusting(Suite):
    spec = spec(Trusting)
    caught_by = "test_bodies_that_are_no_json_object_are_refused"


class TestTrustingJunk(Suite):
    spec = spec(Trusting)
    caught_by = "test_junk_in_a_body_is_never_a_fault_of_the_server"


class Silent(Sound):
    """Drops what it does not know without a word."""

    async def complete(self, request: Request, body: CompleteBody) -> Response:
        wish = self.wish(body)
        return LineStream(self.pieces(wish)) if body.stream else await answer(request, self.whole(wish))


class TestSilent(Suite):
    spec = spec(Silent)
    caught_by = "test_fields_that_nobody_reads_are_reported"


class Forgetful(Sound):
    """Goes on generating for a client that has left."""

    async def complete(self, request: Request, body: CompleteBody) -> Response:
        await check_body(request, body, strict=self.serving.config.server.strict_requests)
        wish = self.wish(body)
        return LineStream(self.pieces(wish)) if body.stream else json_answer(await self.whole(wish))


class TestForgetful(Suite):
    spec = spec(Forgetful)
    caught_by = "test_a_client_that_leaves_aborts_its_choices"


class Leaking(Sound):
    """Leaves its generator to the garbage collector."""

    async def complete(self, request: Request, body: CompleteBody) -> Response:
        await check_body(request, body, strict=self.serving.config.server.strict_requests)
        if not body.stream:
            return await answer(request, self.whole(self.wish(body)))
        return StreamingResponse(self.pieces(self.wish(body)), media_type="application/x-ndjson")


class TestLeaking(Suite):
    spec = spec(Leaking)
    caught_by = "test_a_client_that_leaves_aborts_its_choices"


class Hoarding(Sound):
    """Sends the stream when it has all of it."""

    async def pieces(self, wish: GenerateRequest) -> AsyncGenerator[bytes]:
        whole = [piece async for piece in super().pieces(wish)]
        yield b"".join(whole)


class TestHoarding(Suite):
    spec = spec(Hoarding)
    caught_by = "test_streams_are_sent_while_they_come"


class Truncating(Sound):
    """Takes the last chunk for one that only says why it is the last."""

    async def pieces(self, wish: GenerateRequest) -> AsyncGenerator[bytes]:
        async with aclosing(self.serving.generate(wish)) as chunks:
            async for chunk in chunks:
                yield line({"text": "" if chunk.finish_reason else chunk.text})


class TestTruncating(Suite):
    spec = spec(Truncating)
    caught_by = "test_streamed_and_whole_answers_agree"


class Hushing(Sound):
    """Ends a stream that fails as if it were whole."""

    async def pieces(self, wish: GenerateRequest) -> AsyncGenerator[bytes]:
        has_begun = False
        try:
            async with aclosing(super().pieces(wish)) as pieces:
                async for piece in pieces:
                    has_begun = True
                    yield piece
        except Exception:
            if not has_begun:
                raise


class TestHushing(Suite):
    spec = spec(Hushing)
    caught_by = "test_a_failure_in_mid_stream_is_told_and_ends_the_stream"


class Mixing(Sound):
    """Keeps the text of a request on the family."""

    text = ""

    async def whole(self, wish: GenerateRequest) -> Any:
        self.text = ""
        async with aclosing(self.serving.generate(wish)) as chunks:
            async for chunk in chunks:
                self.text += chunk.text
                await asyncio.sleep(0)
        return {"text": self.text}


class TestMixing(Suite):
    spec = spec(Mixing)
    caught_by = "test_answers_at_a_time_do_not_mix"


class OneAtATime(Sound):
    """A lock, to be safe."""

    async def whole(self, wish: GenerateRequest) -> Any:
        self.lock = getattr(self, "lock", asyncio.Lock())
        async with self.lock:
            return await super().whole(wish)


class TestOneAtATime(Suite):
    spec = spec(OneAtATime)
    caught_by = "test_a_slow_answer_holds_no_other_back"


class Blocking(Sound):
    """Waits for its own answer on the loop that should make it."""

    async def whole(self, wish: GenerateRequest) -> Any:
        working = asyncio.ensure_future(super().whole(wish))
        while not working.done():
            time.sleep(0.01)
        return working.result()


class TestBlocking(Suite):
    spec = spec(Blocking)
    caught_by = "test_a_slow_answer_holds_no_other_back"


class Threaded(Sound):
    """A handler that FastAPI runs in a thread."""

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/broken/complete", self.complete, methods=["POST"], response_model=None)
        router.add_api_route("/broken/info", self.models, methods=["GET"], response_model=None)
        return router

    def models(self) -> Response:
        return Response(json.dumps([card.id for card in self.serving.models()]))


class TestThreaded(Suite):
    spec = spec(Threaded)
    caught_by = "test_serving_is_called_on_the_event_loop"


class Untried(Sound):
    """Has a route of which there is no example."""

    paths = (*Sound.paths, "/broken/embed")

    def router(self) -> APIRouter:
        router = super().router()
        router.add_api_route("/broken/embed", self.info, methods=["POST"], response_model=None)
        return router


class TestUntried(Suite):
    spec = spec(Untried)
    caught_by = "test_has_an_example_of_each_route"
