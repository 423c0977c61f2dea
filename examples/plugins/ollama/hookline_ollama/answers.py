"""RunAnswer: the answer to one chat or generate request, whole or in lines."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hookline.api.choice import raise_if_failed
from hookline.api.ndjson import line
from hookline.interfaces.api import Chunk, GenerateRequest, OutputParser, Serving
from hookline_ollama.pieces import Piece, PieceReader

#: A piece as the fields of chat ("message") or generate ("response", "thinking").
Shape = Callable[[Piece], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswer:
    """Generates once: use either ``whole`` or ``lines``."""

    serving: Serving
    request: GenerateRequest
    parser: OutputParser
    #: The model as the client calls it.
    model: str
    shape: Shape

    async def whole(self) -> dict[str, Any]:
        """One object."""
        clock, joined, logprobs = Clock(), Piece(), list[dict[str, Any]]()
        last: Chunk | None = None
        async with aclosing(self._read(clock)) as parts:
            async for chunk, piece in parts:
                joined.add(piece)
                logprobs += self._logprobs(chunk)
                last = chunk
        assert last is not None
        told = {"logprobs": logprobs} if self.request.logprobs is not None else {}
        return {**self._head(), **self.shape(joined), **told, **clock.end(last)}

    async def lines(self) -> AsyncGenerator[bytes]:
        """A line for each piece, and one with the counts. What holds no text yet is no line."""
        clock = Clock()
        async with aclosing(self._read(clock)) as parts:
            async for chunk, piece in parts:
                logprobs = self._logprobs(chunk)
                told = {"logprobs": logprobs} if logprobs else {}
                pieces = [line({**self._head(), **self.shape(piece), **told, "done": False})] if piece or told else []
                if chunk.finish_reason is not None:
                    pieces.append(line({**self._head(), **self.shape(Piece()), **clock.end(chunk)}))
                if pieces:
                    yield b"".join(pieces)

    async def _read(self, clock: Clock) -> AsyncGenerator[tuple[Chunk, Piece]]:
        reader = PieceReader(self.parser)
        async with aclosing(self.serving.generate(self.request)) as chunks:
            async for chunk in chunks:
                raise_if_failed(chunk.finish_reason)
                clock.chunk_came()
                yield chunk, reader.feed(chunk.text, is_last=chunk.finish_reason is not None)

    def _head(self) -> dict[str, Any]:
        return {"model": self.model, "created_at": timestamp()}

    def _logprobs(self, chunk: Chunk) -> list[dict[str, Any]]:
        return [
            {
                **self._logprob(entry.token_id, entry.logprob),
                "top_logprobs": [self._logprob(token_id, value) for token_id, value in entry.top],
            }
            for entry in chunk.output_logprobs or ()
        ]

    def _logprob(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        return {
            "token": self.serving.token_text(token_id),
            "logprob": logprob,
            "bytes": list(self.serving.token_bytes(token_id)),
        }


class Clock:
    """Times of one answer, in nanoseconds."""

    def __init__(self) -> None:
        self._started = time.perf_counter_ns()
        #: When chunks came.
        self._first = self._last = 0

    def chunk_came(self) -> None:
        """Call for every chunk."""
        self._last = time.perf_counter_ns()
        self._first = self._first or self._last

    def end(self, last: Chunk) -> dict[str, Any]:
        """The fields that end an answer.

        The prompt's time is that to the first chunk. An answer of one chunk does not tell it from the
        output's, which then has all of it. Neither is 0: clients divide by them.
        """
        finish = last.finish_reason
        assert finish is not None
        is_split = self._last > self._first
        prompt = self._first - self._started if is_split else 0
        return {
            "done": True,
            "done_reason": finish.type,
            "total_duration": time.perf_counter_ns() - self._started,
            "load_duration": 0,
            "prompt_eval_count": last.stats.prompt_tokens,
            "prompt_eval_duration": max(1, prompt),
            "eval_count": last.stats.completion_tokens,
            "eval_duration": max(1, self._last - self._started - prompt),
        }


def timestamp(seconds: float | None = None) -> str:
    """A time as Ollama writes it; ``None``: now."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat().replace("+00:00", "Z")
