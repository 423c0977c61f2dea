"""Server-sent events: ``data: {json}``, a blank line, and ``data: [DONE]`` at the end."""

from __future__ import annotations

from typing import Any

import orjson

from hookline.api.streams import StreamedAnswer


def event(value: Any) -> bytes:
    """One event. ``value`` is built of plain dicts, lists, strings and numbers; NaN becomes null."""
    return b"data: " + orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS) + b"\n\n"


class EventStream(StreamedAnswer):
    """A streamed answer whose pieces are what ``event`` gives."""

    content_type = "text/event-stream; charset=utf-8"
    end = b"data: [DONE]\n\n"
    frame = staticmethod(event)
