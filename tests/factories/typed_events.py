"""Reads streams of events that have names."""

from __future__ import annotations

import json
from typing import Any

import httpx


def read_typed_events(answer: httpx.Response) -> list[Any]:
    """The events of a finished stream, which must be framed exactly and named by their types."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, rest = answer.text.split("\n\n")
    assert rest == ""
    values = []
    for event in events:
        name, data = event.split("\n")
        values.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {values[-1]['type']}"
    return values
