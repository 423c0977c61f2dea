"""Server-sent events that have names: ``event: NAME``, ``data: {json}``, and nothing after the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookline.api.sse import event
from hookline.api.streams import StreamedAnswer


def typed_event(value: Mapping[str, Any]) -> bytes:
    """One event, named by its value's ``type``, an ASCII word."""
    return b"event: " + str(value["type"]).encode() + b"\n" + event(value)


class TypedEventStream(StreamedAnswer):
    """A streamed answer whose pieces are what ``typed_event`` gives. The family's ``error_body`` must have a
    ``type``."""

    content_type = "text/event-stream; charset=utf-8"
    frame = staticmethod(typed_event)
