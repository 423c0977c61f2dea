"""EventReader: the events of a streamed completion, with the time of each."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from hookline.bench.chunked_body import ChunkedBody

_DATA = b"data:"
_DONE = b"[DONE]"


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Event(msgspec.Struct):
    choices: list[msgspec.Raw] = []
    usage: _Usage | None = None
    error: Any = None


class EventReader:
    """Takes the body of one answer in pieces, and notes when each event with output came."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Event)
        self._chunks = ChunkedBody()
        self._rest = b""
        #: perf_counter of each event with output.
        self.times: list[float] = []
        #: What the server says it generated; ``None`` if it did not say.
        self.output_tokens: int | None = None
        self.error: Any = None
        self.is_done = False

    def feed(self, data: bytes, *, is_chunked: bool) -> None:
        """Take a piece; what is no event stream becomes the error."""
        try:
            self._feed(data, time.perf_counter(), is_chunked=is_chunked)
        except (ValueError, msgspec.MsgspecError) as exc:
            self.error = self.error or f"the answer is no event stream: {exc}"

    def _feed(self, data: bytes, now: float, *, is_chunked: bool) -> None:
        text = self._rest + (self._chunks.feed(data) if is_chunked else data)
        *lines, self._rest = text.split(b"\n")
        for line in lines:
            if line.startswith(_DATA):
                self._take(line[len(_DATA) :].strip(), now)

    def _take(self, payload: bytes, now: float) -> None:
        if payload == _DONE:
            self.is_done = True
            return
        event = self._decoder.decode(payload)
        if event.error is not None:
            self.error = event.error
        if event.usage is not None:
            self.output_tokens = event.usage.completion_tokens
        if event.choices:
            self.times.append(now)
