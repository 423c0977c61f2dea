from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from starlette.responses import Response

from hookline.api.app import create_app
from hookline.api.bodies import RequestBody
from hookline.api.errors import ErrorAnswer
from hookline.api.families import LoadedFamily, load_families
from hookline.api.ndjson import LineStream, line
from hookline.config.schema import HooklineConfig
from hookline.errors import ConfigError, PluginError, RequestError
from hookline.interfaces.api import ApiFamily
from hookline.plugins.plan import ChosenSpec, PluginPlan
from hookline.testkit import in_process
from hookline.testkit.fake_serving import FakeServing, Reply
from hookline.testkit.in_process import http, installed_family
from tests.factories.fake_serving import make_app


def _family(name: str, *paths: str, methods: list[str] | None = None, **fields: Any) -> LoadedFamily:
    class Family(ApiFamily):
        def router(self) -> APIRouter:
            router = APIRouter()

            async def handler() -> Response:
                return Response(name)

            for path in paths:
                router.add_api_route(path, handler, methods=methods or ["GET"], response_model=None)
            return router

    return LoadedFamily(
        name=name,
        distribution=f"dist-{name} 1.0",
        target=Family,
        paths=frozenset(fields.pop("declared", paths)),
        **fields,
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("/a",), ("/a",)),
        (("/v1/models/{model:path}",), ("/v1/models/special",)),
        (("/x/{id}",), ("/x/{name}",)),
    ],
)
def test_a_path_of_two_families_is_an_error_that_names_both(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    families = [_family("first", *one), _family("second", *two)]
    with pytest.raises(PluginError, match=r"'first' of dist-first 1.0 and 'second' of dist-second 1.0"):
        create_app(FakeServing(), families, HooklineConfig())


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/{anything}", "/docs/{page:path}"])
def test_a_path_of_the_application_itself_is_an_error(path: str) -> None:
    with pytest.raises(PluginError, match=r"'mine' of dist-mine 1.0 claims .* every server answers"):
        create_app(FakeServing(), [_family("mine", path)], HooklineConfig())


def test_a_router_holds_its_routes_itself() -> None:
    class Nested(ApiFamily):
        def router(self) -> APIRouter:
            inner, outer = APIRouter(), APIRouter()
            inner.add_api_route("/a", lambda: None, methods=["GET"])
            outer.mount("/b", inner)
            return outer

    family = LoadedFamily(name="nested", distribution="d", target=Nested, paths=frozenset({"/b/a"}))
    with pytest.raises(PluginError, match="'nested' of d has a Mount; add every route to the one router itself"):
        create_app(FakeServing(), [family], HooklineConfig())


async def test_one_path_with_different_methods_is_no_conflict() -> None:
    app = create_app(
        FakeServing(), [_family("first", "/a"), _family("second", "/a", methods=["POST"])], HooklineConfig()
    )
    async with http(app) as client:
        assert (await client.get("/a")).text == "first"
        assert (await client.post("/a")).text == "second"


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (_family("f", "/a", "/b", declared=["/a"]), "does not declare: /b"),
        (_family("f", "/a", declared=["/a", "/b"]), "does not serve: /b"),
        (_family("f", "/a", admin_paths=frozenset({"/c"})), "access of paths.*: /c"),
    ],
)
def test_a_family_serves_what_it_declares(family: LoadedFamily, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        create_app(FakeServing(), [family], HooklineConfig())


def _plan(target: str) -> PluginPlan:
    details = {"paths": ["/live"], "admin_paths": [], "open_paths": ["/live"]}
    spec = ChosenSpec(
        kind="api_families",
        name="mine",
        target=target,
        distribution="hookline-api",
        version=installed_family("native").distribution.split()[1],
        plugin="api",
        details=details,
    )
    return PluginPlan(chosen=[spec])


def test_families_are_loaded_from_the_plan() -> None:
    (family,) = load_families(_plan("hookline_api.native.family:NativeFamily"))
    assert str(family).startswith("'mine' of hookline-api ")
    assert family.paths == family.open_paths == frozenset({"/live"})


def test_a_target_that_is_no_family_is_an_error_that_names_its_distribution() -> None:
    with pytest.raises(PluginError, match=r"'mine' of hookline-api.* must be a subclass of .*ApiFamily"):
        load_families(_plan("hookline.api.choice:Choice"))


def test_a_key_that_cannot_be_read_stops_the_server() -> None:
    with pytest.raises(ConfigError, match=r"server\.api_key.*HOOKLINE_NO_SUCH_VARIABLE"):
        make_app(api_key="env:HOOKLINE_NO_SUCH_VARIABLE")


# --- request ids, CORS ---


async def test_request_ids_are_taken_or_made_and_sent_back_with_every_answer() -> None:
    async with http(make_app()) as client:
        given = await client.get("/live", headers={"x-request-id": "abc-1"})
        assert given.headers["x-request-id"] == "abc-1"
        made = {(await client.get(path)).headers["x-request-id"] for path in ("/live", "/nowhere")}
        assert len(made) == 2
        odd = await client.get("/live", headers={"x-request-id": "a b;c"})
        assert odd.headers["x-request-id"] != "a b;c"


async def test_only_listed_origins_may_read_answers() -> None:
    async with http(make_app(cors_allow_origins=["https://chat.example"], api_key="k")) as client:
        preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        allowed = await client.options("/v1/models", headers={"origin": "https://chat.example", **preflight})
        assert allowed.status_code == 200, "a preflight carries no key"
        assert allowed.headers["access-control-allow-origin"] == "https://chat.example"
        refused = await client.options("/v1/models", headers={"origin": "https://evil.example", **preflight})
        assert refused.status_code == 400
        # Pages can read errors too, also those of the key check.
        error = await client.get("/v1/models", headers={"origin": "https://chat.example"})
        assert (error.status_code, error.headers["access-control-allow-origin"]) == (401, "https://chat.example")


# --- limits ---


def _body_of(size: int) -> bytes:
    return b'{"text": "' + b"x" * (size - 12) + b'"}'


async def test_an_oversized_body_is_refused_before_it_is_read() -> None:
    serving = FakeServing()
    app = make_app(serving, max_request_bytes=2048)
    headers = {"content-type": "application/json"}
    async with http(app, headers=headers) as client:
        assert (await client.post("/generate", content=_body_of(2048))).status_code == 200
        for content in (_body_of(2049), _chunked(_body_of(100_000))):
            answer = await client.post("/generate", content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "request_too_large"
            assert "max_request_bytes" in answer.json()["error"]["message"]
    assert len(serving.requests) == 1


async def _chunked(body: bytes) -> AsyncIterator[bytes]:
    """Without a content-length; fails the test when it is read far beyond the limit."""
    for start in range(0, len(body), 1000):
        assert start < 10_000, "the server read on after the limit"
        yield body[start : start + 1000]


async def test_requests_beyond_the_limit_get_503_and_health_still_answers() -> None:
    serving = FakeServing(replies=[Reply(break_after=0)])
    async with http(make_app(serving, max_concurrent_requests=1)) as client:
        first = asyncio.create_task(client.post("/generate", json={"text": "a"}))
        await serving.hanging.wait()
        second = await client.post("/generate", json={"text": "b"})
        assert second.status_code == 503
        assert second.json()["error"] == {
            "message": "1 requests are in flight, as many as this server takes (max_concurrent_requests); "
            "try again later",
            "type": "overloaded_error",
            "param": None,
            "code": "overloaded",
        }
        assert second.headers["retry-after"] == "1"
        assert (await client.get("/health")).status_code == 200
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        serving.replies = [Reply()]
        assert (await client.post("/generate", json={"text": "c"})).status_code == 200, "the place is free again"


async def test_an_open_path_with_a_parameter_answers_under_load_too() -> None:
    family = _family("probes", "/probe/{part}", open_paths=frozenset({"/probe/{part}"}))
    serving = FakeServing(replies=[Reply(break_after=0)])
    async with http(in_process.make_app([family, "native"], serving, max_concurrent_requests=1)) as client:
        first = asyncio.create_task(client.post("/generate", json={"text": "a"}))
        await serving.hanging.wait()
        assert (await client.get("/probe/disk")).text == "probes"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


# --- unknown fields ---


async def test_unknown_fields_are_named_in_a_header() -> None:
    async with http(make_app()) as client:
        body: dict[str, Any] = {"prompt": "a", "temprature": 0.1, "strange\r\nname: é": 1}
        answer = await client.post("/v1/completions", json=body)
        assert answer.status_code == 200
        assert answer.headers["x-hookline-ignored-fields"] == r"temprature, strange\r\nname: \u00e9"
        plain = await client.post("/v1/completions", json={"prompt": "a"})
        assert "x-hookline-ignored-fields" not in plain.headers


async def test_unknown_fields_of_nested_objects_and_streams_are_named_too() -> None:
    body = {"prompt": "a", "stream": True, "stream_options": {"include_usage": True, "more": 1}}
    async with http(make_app()) as client:
        answer = await client.post("/v1/completions", json=body)
    assert answer.headers["x-hookline-ignored-fields"] == "stream_options.more"


async def test_unknown_fields_are_errors_under_strict_requests() -> None:
    async with http(make_app(strict_requests=True)) as client:
        answer = await client.post("/v1/completions", json={"prompt": "a", "temprature": 0.1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_field")
    assert "did you mean 'temperature'?" in answer.json()["error"]["message"]


# --- errors ---


async def _error(client: httpx.AsyncClient, status: int, method: str, path: str, **options: Any) -> dict[str, Any]:
    answer = await client.request(method, path, **options)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    return dict(error)


async def test_unknown_routes_and_methods_are_error_objects() -> None:
    async with http(make_app()) as client:
        error = await _error(client, 404, "GET", "/v1/nothing")
        assert (error["code"], error["type"]) == ("not_found", "invalid_request_error")
        assert "GET /v1/nothing" in error["message"]
        error = await _error(client, 405, "GET", "/v1/completions")
        assert error["code"] == "method_not_allowed"
        assert "use POST" in error["message"]


class _Terse(ApiFamily):
    """Words its errors in its own way."""

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/terse/{what}", self.fail, methods=["POST"], response_model=None)
        return router

    async def fail(self, what: str, body: RequestBody) -> Response:
        async def lines() -> AsyncGenerator[bytes]:
            yield line({"fine": 1})
            raise RequestError("late", status_code=409)

        if what == "late":
            return LineStream(lines())
        raise RequestError("refused", status_code=422) if what == "early" else KeyError("secret")

    def error_body(self, error: ErrorAnswer) -> Any:
        return {"fault": f"{error.status_code} {error.message}"}


async def test_a_family_words_every_error_on_its_own_paths() -> None:
    family = LoadedFamily(name="terse", distribution="d", target=_Terse, paths=frozenset({"/terse/{what}"}))
    app = in_process.make_app([family, "native"], api_key="key", max_request_bytes=2048)
    async with http(app) as client:
        assert (await client.post("/terse/early", json={})).json()["fault"].startswith("401 this server needs a key")
        client.headers["authorization"] = "Bearer key"
        answer = await client.post("/terse/early", json={})
        assert (answer.status_code, answer.json()) == (422, {"fault": "422 refused"})
        for body, options, fault in (
            ("{", {}, "400 the body is not valid JSON"),
            ("x" * 2049, {}, "413 the request body has 2049 bytes"),
            ("{}", {"method": "PUT"}, "405 there is no route PUT /terse/early; use POST"),
        ):
            wrong = await client.request(options.get("method", "POST"), "/terse/early", content=body, headers=_JSON)
            assert wrong.json()["fault"].startswith(fault)
        broken = await client.post("/terse/broken", json={})
        assert broken.json()["fault"].startswith("500 the server failed on this request (KeyError)")
        late = await client.post("/terse/late", json={})
        assert (late.status_code, late.text) == (200, '{"fine":1}\n{"fault":"409 late"}\n')
        assert set((await client.get("/nowhere")).json()) == {"error"}, "other paths keep the usual error objects"
        assert set((await client.post("/generate", json={})).json()) == {"error"}


_JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("content", "headers", "message"),
    [
        (b'{"prompt": "a",}', _JSON, "not valid JSON"),
        (b"{", _JSON, "not valid JSON"),
        (b'{"prompt": "\xff"}', _JSON, "pars"),
        (b"[" * 200_000, _JSON, "pars"),
        (b"[1]", _JSON, "must be a JSON object"),
        (b"null", _JSON, "JSON object"),
        (b"", _JSON, "needs a JSON object"),
        (b'{"prompt": "a"}', {"content-type": "text/plain"}, "content-type: application/json"),
        (b'{"prompt": "a"}', {}, "content-type: application/json"),
    ],
)
async def test_a_body_that_is_no_json_object_is_a_400_that_says_so(
    content: bytes, headers: dict[str, str], message: str
) -> None:
    async with http(make_app()) as client:
        error = await _error(client, 400, "POST", "/v1/completions", content=content, headers=headers)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "prompt", "'prompt' is missing"),
        ({"prompt": 5}, "prompt", "prompt must be a string, a list of token ids, or"),
        ({"prompt": "a", "stop": 5}, "stop", "'stop' should be a valid string or should be a valid list, not 5"),
        ({"prompt": "a", "n": "2"}, "n", "'n' should be a valid integer"),
        ({"prompt": "a", "n": True}, "n", "'n' should be a valid integer"),
        ({"prompt": "a", "stream_options": {"include_usage": 3}}, "stream_options.include_usage", "valid boolean"),
        ({"prompt": "a", "n": 0}, "n", "n must be an integer from 1 to"),
        ({"prompt": "a", "temperature": -1}, "temperature", "temperature must be a number at least 0"),
        ({"prompt": "a\ud800"}, None, "half of a character"),
        ({"prompt": "a", "user": "\udc00\ud800"}, None, "half of a character"),
    ],
)
async def test_bad_values_are_a_400_with_place_and_reason(
    body: dict[str, Any], param: str | None, message: str
) -> None:
    async with http(make_app()) as client:
        error = await _error(client, 400, "POST", "/v1/completions", content=json.dumps(body).encode(), headers=_JSON)
    assert error["param"] == param
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


async def test_characters_written_as_two_escapes_are_text() -> None:
    serving = FakeServing()
    async with http(make_app(serving)) as client:
        answer = await client.post("/v1/completions", content=b'{"prompt": "\\ud83d\\ude00"}', headers=_JSON)
    assert answer.status_code == 200
    assert serving.requests[0].prompt == "😀"


async def test_nan_is_no_temperature() -> None:
    async with http(make_app()) as client:
        error = await _error(
            client, 400, "POST", "/v1/completions", content=b'{"prompt": "a", "temperature": NaN}', headers=_JSON
        )
    assert error["param"] == "temperature"


async def test_deep_nesting_is_the_clients_fault() -> None:
    schema = '{"items": ' * 800 + "{}" + "}" * 800
    content = f'{{"prompt": "a", "json_schema": {schema}, "user": "\\ud83d\\ude00"}}'.encode()
    async with http(make_app()) as client:
        answer = await client.post("/v1/completions", content=content, headers=_JSON)
    assert answer.status_code in (200, 400), answer.text


async def test_many_faults_make_one_short_message() -> None:
    body = {"prompt": "a", **dict.fromkeys(["n", "seed", "top_k", "max_tokens", "logprobs", "best_of"], "x")}
    async with http(make_app()) as client:
        error = await _error(client, 400, "POST", "/v1/completions", json=body)
    assert "and 2 more" in error["message"]


async def test_a_failure_inside_the_server_is_an_error_object_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    serving = FakeServing(replies=[Reply(error=KeyError("secret detail")), Reply()])
    async with http(make_app(serving)) as client:
        error = await _error(client, 500, "POST", "/generate", json={"text": "a"})
        assert error["type"] == "server_error"
        assert "secret detail" not in error["message"]
        assert (await client.post("/generate", json={"text": "a"})).status_code == 200
    assert "secret detail" in caplog.text
