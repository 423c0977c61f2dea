"""Request bodies and answers: fields that nobody reads are told to the client, never dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from hookline.errors import RequestError
from hookline.plugins.names import near_miss

#: Names the fields of a request that had no effect.
IGNORED_HEADER = "x-hookline-ignored-fields"
_MAX_HEADER_LENGTH = 1024


class RequestBody(BaseModel):
    """Base of request models. Fields that it does not declare are kept, so that they can be reported."""

    # Strict: "1" is no number and true no integer; converting them in silence hides a client's mistake.
    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())

    def unknown_fields(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """(dotted path, near miss or "") of each field that is not declared, nested bodies included."""
        for name in self.model_extra or {}:
            yield prefix + name, near_miss(name, type(self).model_fields)
        for name in type(self).model_fields:
            value = getattr(self, name)
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, RequestBody):
                    yield from item.unknown_fields(f"{prefix}{name}.")


async def check_body(request: Request, body: RequestBody, *, strict: bool) -> None:
    """Report unknown fields in a header of the answer; with ``strict`` raise ``RequestError`` instead.

    Raises it too for text that is no Unicode: JSON can write halves of characters, which nothing can encode.
    """
    _check_text(await request.body())
    unknown = list(body.unknown_fields())
    if not unknown:
        return
    if strict:
        listed = ", ".join(f"'{name}'{hint}" for name, hint in unknown)
        raise RequestError(
            f"unknown request fields: {listed} (this server refuses them: strict_requests)",
            param=unknown[0][0],
            code="unknown_field",
        )
    # Names come from the client: JSON's escapes keep them from ending the header or leaving ASCII.
    names = ", ".join(json.dumps(name)[1:-1] for name, _ in unknown)
    request.state.answer_headers = {IGNORED_HEADER: names[:_MAX_HEADER_LENGTH]}


def _check_text(raw: bytes) -> None:
    # Bytes that are not UTF-8 were refused before; what is left are halves written as escapes.
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return
    try:
        json.dumps(json.loads(raw), ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise RequestError(
            "the body holds half of a character: a \\ud800 to \\udfff escape without its other half",
            code="invalid_text",
        ) from exc


def json_answer(value: Any, status_code: int = 200) -> Response:
    """``value`` as JSON. NaN and infinities become null, and what JSON does not know becomes its text."""
    content = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status_code=status_code, media_type="application/json")
