"""ApiCall: an example call of an API family, from which its suite makes all others; and readers of streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

#: What a body may hold at any place without more than the request failing.
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    10**400,
    "",
    "junk",
    "\ud800",
    [],
    [None],
    {},
    {"junk": [{}]},
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ApiCall:
    """An example call, and what is known of its answer.

    It is made over a ``FakeServing``, which serves the model ``fake_serving.MODEL``, says "Hello there." and
    gives embeddings of two numbers.
    """

    #: The path as a client calls it, parameters filled in.
    path: str
    method: str = "POST"
    #: Sent as JSON; ``None``: no body.
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The status of the answer.
    status: int = 200
    #: Looks at the answer; its failed assertions are the test's.
    check: Callable[[httpx.Response], object] | None = None
    #: What the model said, read from the answer. Without it texts are not compared, which leaves untested that
    #: answers are whole and their own. A call with ``text`` must allow 64 tokens of output.
    text: Callable[[httpx.Response], str] | None = None
    #: The same call with an answer in a stream; its ``text`` joins the pieces.
    streamed: ApiCall | None = None
    #: For a call that has an answer in a stream only.
    is_stream: bool = False

    def __repr__(self) -> str:
        return f"{self.method} {self.path} {'' if self.body is None else json.dumps(self.body)}".rstrip()

    def with_body(self, body: Any) -> dict[str, Any]:
        """The arguments of ``httpx.AsyncClient.request`` for this call with another body."""
        headers = dict(self.headers)
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return {"method": self.method, "url": self.path, "headers": headers, "content": content}


def spoiled(body: Any) -> Iterator[Any]:
    """The body with junk at one place after another, and with each field left out."""
    for path in _places(body):
        for junk in JUNK:
            yield _put(body, path, junk)
        yield _put(body, path, _MISSING)


def read_ndjson(answer: httpx.Response) -> list[Any]:
    """The values of a finished NDJSON stream."""
    assert answer.status_code == 200, answer.text
    *lines, rest = answer.text.split("\n")
    assert rest == "", "the last line has no end"
    return [json.loads(line) for line in lines]


def read_events(answer: httpx.Response) -> list[Any]:
    """The events of a finished stream of ``hookline.api.sse``, which must be framed exactly."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


_MISSING = object()
_Path = tuple[str | int, ...]


def _places(value: Any, path: _Path = ()) -> Iterator[_Path]:
    """Every place inside, outer ones first; of a list the first entry stands for all."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value[:1]))
    for key, child in children:
        yield (*path, key)
        yield from _places(child, (*path, key))


def _put(value: Any, path: _Path, new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    changed = _put(value[path[0]], path[1:], new)
    if changed is _MISSING:
        del copy[path[0]]
    else:
        copy[path[0]] = changed
    return copy
