"""Choice: what has come of one choice so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hookline.errors import RequestError
from hookline.interfaces.api import Chunk
from hookline.messages.outputs import FinishReason, RequestStats, TokenLogprob

#: Statuses of aborts that somebody asked for: what was generated until then is the answer.
_WANTED_ABORTS = frozenset({200, 499})


@dataclass(slots=True)
class Choice:
    """Accumulates the chunks of one choice."""

    text: str = ""
    output_ids: list[int] = field(default_factory=list)
    output_logprobs: list[TokenLogprob] = field(default_factory=list)
    input_logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stats: RequestStats = field(default_factory=lambda: RequestStats(0, 0, 0))
    #: Kind of medium -> tokens of the prompt.
    media_tokens: Mapping[str, int] = field(default_factory=dict)
    embedding: list[float] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk. Raises ``RequestError`` if it ends the choice with a failure."""
        raise_if_failed(chunk.finish_reason)
        self.text += chunk.text
        self.output_ids += chunk.token_ids
        self.output_logprobs += chunk.output_logprobs or ()
        self.input_logprobs += chunk.input_logprobs or ()
        self.stats = chunk.stats
        self.media_tokens = chunk.media_tokens
        self.finish_reason = chunk.finish_reason
        if chunk.embedding is not None:
            self.embedding = chunk.embedding


def raise_if_failed(finish: FinishReason | None) -> None:
    """A choice that the engine gave up is an error of the request, unless somebody aborted it on purpose."""
    if finish is not None and finish.type == "abort" and finish.status_code not in _WANTED_ABORTS:
        raise RequestError(
            finish.message or "the engine gave this request up",
            param=finish.param or None,
            code=finish.code or "aborted",
            status_code=finish.status_code,
        )
