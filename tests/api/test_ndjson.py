from __future__ import annotations

import json

from hookline.api.ndjson import line


def test_a_line_ends_where_every_client_ends_it() -> None:
    value = {"text": "é\n\r\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e😀"}
    raw = line(value)
    assert raw.endswith(b"\n")
    assert len(raw.decode().splitlines()) == 1
    assert json.loads(raw) == value


def test_nan_becomes_null() -> None:
    assert line({"value": float("nan")}) == b'{"value":null}\n'
