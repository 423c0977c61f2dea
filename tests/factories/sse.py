"""Reading of event streams."""

from __future__ import annotations

import json
from typing import Any

import httpx


def read_events(answer: httpx.Response) -> list[Any]:
    """The events of a finished stream, which must be framed exactly and end with [DONE]."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *lines, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]
