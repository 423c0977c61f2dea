"""NDJSON: one JSON value for each line."""

from __future__ import annotations

from typing import Any

import orjson

from hookline.api.streams import StreamedAnswer

#: Characters where many clients end a line too (U+0085, U+2028, U+2029), and which JSON may hold as they are.
_SEPARATORS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def line(value: Any) -> bytes:
    """One line. ``value`` is built of plain dicts, lists, strings and numbers; NaN becomes null."""
    raw = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    for character, escape in _SEPARATORS:
        raw = raw.replace(character, escape)
    return raw + b"\n"


class LineStream(StreamedAnswer):
    """A streamed answer whose pieces are what ``line`` gives."""

    content_type = "application/x-ndjson"
    frame = staticmethod(line)
