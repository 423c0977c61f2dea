"""Errors as answers: in the words of the family that has the path, as OpenAI error objects
``{"error": {"message", "type", "param", "code"}}`` if the family has none of its own and on all other paths."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hookline.api.paths import PathSet
from hookline.errors import EngineDeadError, RequestError

logger = logging.getLogger(__name__)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    499: "request_aborted",
    503: "overloaded_error",
}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
#: Faults listed in one message; a body that is wrong all over needs no longer list.
_MAX_LISTED = 4
_TYPE_NAME = re.compile(r"(str|int|float|bool|none|nullable)$|(list|dict|tuple|set|union|tagged-union|function-\w+)\[")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """What a client is told of an error."""

    status_code: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] | None = None

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = _TYPES.get(self.status_code, "server_error" if self.status_code >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def body_for(self, scope: Scope) -> Any:
        """The body for a request, in the words of its path's family."""
        wordings: Wordings | None = scope.get("state", {}).get("error_wordings")
        return self.body() if wordings is None else wordings.of(scope["path"])(self)

    def response(self, scope: Scope) -> Response:
        """The whole answer to a request."""
        return Response(
            json.dumps(self.body_for(scope)).encode(),
            status_code=self.status_code,
            headers=dict(self.headers or {}),
            media_type="application/json",
        )


class Wordings:
    """How the families of a server word errors on their paths."""

    def __init__(self, families: Sequence[tuple[PathSet, Callable[[ErrorAnswer], Any]]] = ()) -> None:
        self._families = families

    def of(self, path: str) -> Callable[[ErrorAnswer], Any]:
        """What makes a body of an error on this path."""
        return next((word for paths, word in self._families if path in paths), ErrorAnswer.body)


def describe(exc: Exception) -> ErrorAnswer:
    """What to tell the client of ``exc``. An error that is not of the client's making is logged here."""
    if isinstance(exc, RequestError):
        headers = {"retry-after": "1"} if exc.status_code == 503 else None
        return ErrorAnswer(
            status_code=exc.status_code, message=exc.message, param=exc.param, code=exc.code, headers=headers
        )
    if isinstance(exc, RequestValidationError):
        return _describe_validation(exc)
    if isinstance(exc, HTTPException):
        return ErrorAnswer(
            status_code=exc.status_code,
            message=str(exc.detail),
            code=_CODES.get(exc.status_code, "invalid_request" if exc.status_code < 500 else "internal_error"),
            headers=exc.headers,
        )
    if isinstance(exc, EngineDeadError):
        return ErrorAnswer(status_code=500, message=f"the engine has ended: {exc}", code="engine_dead")
    if isinstance(exc, RecursionError):
        # Only what the client sent has a depth without bounds.
        return ErrorAnswer(status_code=400, message="the request is nested too deeply", code="invalid_request")
    logger.error("a request failed inside the server", exc_info=exc)
    return ErrorAnswer(
        status_code=500,
        message=f"the server failed on this request ({type(exc).__name__}); its log has the details",
        code="internal_error",
    )


def install_error_handlers(app: FastAPI) -> None:
    """Answer every error of a route as its family words it."""

    async def handle(request: Request, exc: Exception) -> Response:
        answer = describe(exc)
        if isinstance(exc, HTTPException) and exc.detail in ("Not Found", "Method Not Allowed"):
            answer = _describe_unrouted(request, exc)
        return answer.response(request.scope)

    for kind in (RequestError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)


class ErrorMiddleware:
    """The last resort: what no handler took becomes an error answer, and other requests go on.

    Stands outside of everything else, so that such answers carry the same headers as others. Everything
    inside finds the families' ``wordings`` in the request's state.
    """

    def __init__(self, app: ASGIApp, *, wordings: Wordings) -> None:
        self.app = app
        self._wordings = wordings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["error_wordings"] = self._wordings
        has_started = False

        async def watch(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as exc:
            if has_started:
                # Nothing can be said any more; the server cuts the connection, so that the client notices.
                raise
            await describe(exc).response(scope)(scope, receive, send)


def _describe_unrouted(request: Request, exc: HTTPException) -> ErrorAnswer:
    allowed = (exc.headers or {}).get("Allow")
    hint = f"; use {allowed}" if allowed else "; /openapi.json lists the routes"
    return ErrorAnswer(
        status_code=exc.status_code,
        message=f"there is no route {request.method} {request.url.path:.200}{hint}",
        code=_CODES[exc.status_code],
        headers=exc.headers,
    )


def _describe_validation(exc: RequestValidationError) -> ErrorAnswer:
    """A 400 that says where and what, rather than a list of objects."""
    faults = exc.errors()
    whole_body = next((line for fault in faults if (line := _body_fault(fault)) is not None), None)
    if whole_body is not None:
        code = "invalid_json" if faults[0]["type"] == "json_invalid" else "invalid_request"
        return ErrorAnswer(status_code=400, message=whole_body, code=code)
    # A field that may have several types has a fault for each of them.
    places: dict[str, list[Mapping[str, Any]]] = {}
    for fault in faults:
        places.setdefault(_place(fault["loc"]), []).append(fault)
    lines = [f"'{place}' {_fault(several)}" for place, several in places.items()]
    if len(lines) > _MAX_LISTED:
        lines[_MAX_LISTED:] = [f"and {len(lines) - _MAX_LISTED} more"]
    return ErrorAnswer(status_code=400, message="; ".join(lines), param=next(iter(places)), code="invalid_request")


def _body_fault(fault: Mapping[str, Any]) -> str | None:
    """What is wrong with the body as a whole, if that is the fault."""
    if fault["type"] == "json_invalid":
        return f"the body is not valid JSON: {fault['ctx']['error']} (at character {fault['loc'][-1]})"
    if len(fault["loc"]) > 1:
        return None
    if fault["type"] == "missing":
        return "the request needs a JSON object as its body"
    if isinstance(fault.get("input"), bytes):
        return "the body must be JSON, sent with the header 'content-type: application/json'"
    return "the body must be a JSON object"


def _fault(faults: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong at one place."""
    messages = [
        "is missing" if fault["type"] == "missing" else str(fault["msg"]).removeprefix("Input ") for fault in faults
    ]
    text = " or ".join(dict.fromkeys(messages))
    given = faults[0].get("input")
    return f"{text}, not {given!r:.40}" if given is None or isinstance(given, (str, int, float)) else text


def _place(loc: Sequence[int | str]) -> str:
    """("body", "messages", 0, "role") -> "messages[0].role". Names of types, which tell the members of a
    union apart, are left out."""
    path = ""
    for part in loc[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _TYPE_NAME.match(part):
            path += f".{part}"
    return path.removeprefix(".")
