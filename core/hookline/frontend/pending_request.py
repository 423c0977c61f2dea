"""Requests that were sent to the scheduler and have not been answered to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from hookline.errors import EngineDeadError
from hookline.interfaces.api import Chunk
from hookline.media.prepared import PreparedMedia
from hookline.messages.outputs import FinishReason, RequestStats, TokenLogprob


class PendingChoice:
    """One choice: what has come and was not yet taken by the reader.

    A reader that is slower than the engine finds all that came meanwhile joined into one chunk, so memory
    is bounded by the output's length and no token is lost.
    """

    __slots__ = (
        "_embedding",
        "_finish",
        "_input_logprobs",
        "_output_logprobs",
        "_stats",
        "_texts",
        "_token_ids",
        "ended",
        "has_news",
        "index",
        "last_token_at",
        "request",
        "rid",
    )

    def __init__(self, request: PendingRequest, rid: str, index: int) -> None:
        self.request = request
        self.rid = rid
        self.index = index
        self.ended = False
        self.has_news = False
        #: Monotonic time of the last output tokens; ``None`` before the first.
        self.last_token_at: float | None = None
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._finish: FinishReason | None = None
        self._stats = RequestStats(0, 0, 0)
        self._output_logprobs: list[TokenLogprob] | None = None
        self._input_logprobs: list[TokenLogprob] | None = None
        self._embedding: list[float] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether a reader still waits for outputs of this choice."""
        return not self.ended and not self.request.closed

    def add(
        self,
        *,
        text: str,
        token_ids: Sequence[int],
        finish: FinishReason | None,
        stats: RequestStats,
        output_logprobs: Sequence[TokenLogprob] | None = None,
        input_logprobs: Sequence[TokenLogprob] | None = None,
        embedding: list[float] | None = None,
    ) -> None:
        """Take an output of the engine and wake the reader if it waits for such."""
        if text:
            self._texts.append(text)
        self._token_ids.extend(token_ids)
        self._stats = stats
        if output_logprobs is not None:
            self._output_logprobs = [*(self._output_logprobs or ()), *output_logprobs]
        if input_logprobs is not None:
            self._input_logprobs = [*(self._input_logprobs or ()), *input_logprobs]
        if embedding is not None:
            self._embedding = embedding
        if finish is not None:
            self._finish = finish
            self.ended = True
        if self.ended or self.request.stream:
            self.request.notice(self)

    def take(self) -> Chunk:
        """Everything since the last call, as one chunk."""
        chunk = Chunk(
            rid=self.rid,
            index=self.index,
            text="".join(self._texts),
            token_ids=self._token_ids,
            finish_reason=self._finish,
            stats=self._stats,
            output_logprobs=self._output_logprobs,
            input_logprobs=self._input_logprobs,
            embedding=self._embedding,
            media_tokens=self.request.media_tokens,
        )
        self._texts = []
        self._token_ids = []
        self._output_logprobs = None
        self._input_logprobs = None
        self.has_news = False
        return chunk


class PendingRequest:
    """A request with all its choices, and the one reader that waits for it."""

    def __init__(self, rid: str, *, stream: bool, received: float) -> None:
        """``received`` is the monotonic time of its receipt."""
        self.rid = rid
        self.stream = stream
        self.received = received
        self.choices: list[PendingChoice] = []
        #: What the scheduler reads until the last choice has ended.
        self.media: PreparedMedia | None = None
        self.media_tokens: Mapping[str, int] = {}
        #: Whether the reader has gone: outputs are dropped.
        self.closed = False
        self.has_first_token = False
        self._news: list[PendingChoice] = []
        self._failure: EngineDeadError | None = None
        #: What the reader waits for, while it waits. An asyncio.Event would cost more, and this is for every chunk.
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether every choice has its finish reason."""
        return all(choice.ended for choice in self.choices)

    def hold(self, media: PreparedMedia | None) -> None:
        """Take the request's media, to be released when the last choice has ended."""
        if media is not None:
            self.media = media
            self.media_tokens = media.num_tokens()

    def notice(self, choice: PendingChoice) -> None:
        """``choice`` has something for the reader."""
        if not choice.has_news:
            choice.has_news = True
            self._news.append(choice)
            self._wake()

    def fail(self, message: str) -> None:
        """The engine is dead: the reader gets ``EngineDeadError``."""
        self._failure = EngineDeadError(message)
        self._wake()

    async def next_chunks(self) -> list[Chunk]:
        """Wait for news and give them; [] when all choices have ended and everything was given.

        Raises ``EngineDeadError`` if the engine died before.
        """
        while not self._news:
            if self._failure is not None:
                raise self._failure
            if self.ended:
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        news, self._news = self._news, []
        return [choice.take() for choice in news]

    def _wake(self) -> None:
        # A reader that was cancelled has a finished future until it runs.
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
