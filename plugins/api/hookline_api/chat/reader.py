"""ChoiceReader: what the text of one choice says, as deltas of reasoning, content and calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from hookline.interfaces.api import Chunk, OutputParser, Serving
from hookline.interfaces.parsers import FunctionCallDelta, ReasoningDelta
from hookline.messages.outputs import TokenLogprob
from hookline_api.chat.token_spans import TokenSpans


class DeltaKind(Enum):
    """What a delta is a piece of."""

    REASONING = "reasoning"
    CONTENT = "content"
    CALL = "call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a choice."""

    kind: DeltaKind
    #: Reasoning or content, or a piece of a call's arguments.
    text: str
    #: Of a call: its number, and its name if this is its first piece.
    index: int = 0
    name: str | None = None
    #: Of the tokens since the last delta, if they were asked for.
    logprobs: Sequence[TokenLogprob] = ()

    def continues(self, other: Delta) -> bool:
        """Whether it goes on with what ``other`` is a piece of."""
        return self.name is None and (self.kind, self.index) == (other.kind, other.index)


def join(deltas: Sequence[Delta]) -> Delta:
    """One delta for several that continue each other."""
    if len(deltas) == 1:
        return deltas[0]
    logprobs = [entry for delta in deltas for entry in delta.logprobs]
    return replace(deltas[0], text="".join(delta.text for delta in deltas), logprobs=logprobs)


class ChoiceReader:
    """Reads the chunks of one choice."""

    def __init__(
        self, serving: Serving, parser: OutputParser, *, is_parallel: bool = True, by_token: bool = False
    ) -> None:
        """``is_parallel`` says whether calls beyond the first are passed on.

        With ``by_token`` text is parsed token by token. Then deltas of different kinds come in the order of the text,
        however it was cut into chunks, and log-probabilities come with the text of their tokens.
        """
        self._parser = parser
        self._is_parallel = is_parallel
        self._spans = TokenSpans(serving) if by_token else None
        #: Entries of tokens whose text has not come, and of tokens that no delta has told.
        self._entries: deque[TokenLogprob] = deque()
        self._pending: list[TokenLogprob] = []
        self._texts: list[str] = []
        self._is_incomplete = False
        #: All tokens so far, those of markers and of the end too.
        self.token_ids: list[int] = []
        self.num_calls = 0
        self.has_reasoning = False

    @property
    def text(self) -> str:
        """All that the model wrote so far, markers too."""
        return "".join(self._texts)

    @property
    def has_whole_calls(self) -> bool:
        """Whether there are calls and none was cut off."""
        return self.num_calls > 0 and not self._is_incomplete

    def read(self, chunk: Chunk) -> Iterator[Delta]:
        """The deltas of the next chunk; to be read to the end. Each step parses a few tokens."""
        is_last = chunk.finish_reason is not None
        self._texts.append(chunk.text)
        self.token_ids += chunk.token_ids
        if self._spans is not None:
            yield from self._by_token(self._spans, chunk, is_last=is_last)
        elif chunk.text:
            yield from self._deltas(self._parser.feed(chunk.text))
        if is_last:
            yield from self._told(self._deltas(self._parser.finish()))

    def take_logprobs(self) -> list[TokenLogprob]:
        """Log-probabilities that came with no delta: of markers, and of the token that ended the output."""
        taken, self._pending = self._pending, []
        return taken

    def _by_token(self, spans: TokenSpans, chunk: Chunk, *, is_last: bool) -> Iterator[Delta]:
        self._entries.extend(chunk.output_logprobs or ())
        spans.add(chunk.token_ids)
        for piece, num_tokens in spans.cut(chunk.text, is_last=is_last):
            self._pending += [self._entries.popleft() for _ in range(min(num_tokens, len(self._entries)))]
            if piece:
                yield from self._told(self._deltas(self._parser.feed(piece)))

    def _deltas(self, found: tuple[ReasoningDelta, FunctionCallDelta]) -> list[Delta]:
        reasoning, rest = found
        deltas: list[Delta] = []
        if reasoning.reasoning:
            self.has_reasoning = True
            deltas.append(Delta(kind=DeltaKind.REASONING, text=reasoning.reasoning))
        if rest.content:
            deltas.append(Delta(kind=DeltaKind.CONTENT, text=rest.content))
        self._is_incomplete |= rest.incomplete
        for call in rest.calls:
            self.num_calls = max(self.num_calls, call.index + 1)
            if self._is_parallel or call.index == 0:
                deltas.append(Delta(kind=DeltaKind.CALL, text=call.arguments, index=call.index, name=call.name))
        return deltas

    def _told(self, deltas: list[Delta]) -> list[Delta]:
        """The deltas, the first of them with the log-probabilities that wait for one."""
        if deltas and self._pending:
            deltas[0] = replace(deltas[0], logprobs=self.take_logprobs())
        return deltas
