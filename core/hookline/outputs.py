"""What the Python API returns, and how one choice is put together from its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hookline.interfaces.api import Chunk
from hookline.interfaces.parsers import ToolCallDelta
from hookline.messages.outputs import FinishReason, TokenLogprob


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one choice."""

    prompt_tokens: int
    #: Prompt tokens whose KV was in the prefix cache.
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOutput:
    """One choice of one prompt."""

    prompt_index: int
    choice_index: int
    text: str
    output_ids: list[int]
    finish_reason: FinishReason
    usage: Usage
    #: One entry per output token, where asked for.
    logprobs: list[TokenLogprob] | None = None
    #: One entry per prompt token from ``input_start``, where asked for.
    prompt_logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call that the model made. ``arguments`` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOutput:
    """One choice of a chat, split by the chosen parsers."""

    text: str
    reasoning: str
    tool_calls: list[ToolCall]
    output: GenerationOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOutput:
    """The vector of one prompt."""

    prompt_index: int
    embedding: list[float]
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDelta:
    """A piece of a chat's answer, split by the chosen parsers."""

    reasoning: str = ""
    text: str = ""
    tool_calls: Sequence[ToolCallDelta] = ()
    #: The piece of raw output behind it; ``None`` for what the parsers held back to the end.
    chunk: Chunk | None = None


@dataclass(slots=True)
class ChoiceBuilder:
    """What has come of one choice so far."""

    prompt_index: int
    choice_index: int
    texts: list[str] = field(default_factory=list)
    output_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob] | None = None
    last: Chunk | None = None

    def add(self, chunk: Chunk) -> None:
        self.texts.append(chunk.text)
        self.output_ids.extend(chunk.token_ids)
        if chunk.output_logprobs is not None:
            self.logprobs = [*(self.logprobs or []), *chunk.output_logprobs]
        if chunk.input_logprobs is not None:
            self.prompt_logprobs = chunk.input_logprobs
        if chunk.finish_reason is not None:
            self.last = chunk

    def usage(self) -> Usage:
        """Counts at the end; only after the last chunk."""
        assert self.last is not None
        stats = self.last.stats
        return Usage(
            prompt_tokens=stats.prompt_tokens,
            cached_tokens=stats.cached_tokens,
            completion_tokens=stats.completion_tokens,
        )

    def generation(self) -> GenerationOutput:
        """The finished choice."""
        assert self.last is not None
        assert self.last.finish_reason is not None
        return GenerationOutput(
            prompt_index=self.prompt_index,
            choice_index=self.choice_index,
            text="".join(self.texts),
            output_ids=self.output_ids,
            finish_reason=self.last.finish_reason,
            usage=self.usage(),
            logprobs=self.logprobs,
            prompt_logprobs=self.prompt_logprobs,
        )

    def embedding(self) -> EmbeddingOutput:
        """The finished vector."""
        assert self.last is not None
        assert self.last.embedding is not None
        return EmbeddingOutput(prompt_index=self.prompt_index, embedding=self.last.embedding, usage=self.usage())


class ChatBuilder:
    """What has come of a chat's answer so far."""

    def __init__(self) -> None:
        self._choice = ChoiceBuilder(0, 0)
        self._reasoning: list[str] = []
        self._text: list[str] = []
        self._calls: dict[int, tuple[str, str]] = {}

    def add(self, delta: ChatDelta) -> None:
        """Take the next piece."""
        if delta.chunk is not None:
            self._choice.add(delta.chunk)
        self._reasoning.append(delta.reasoning)
        self._text.append(delta.text)
        for call in delta.tool_calls:
            name, arguments = self._calls.get(call.index, ("", ""))
            self._calls[call.index] = (call.name or name, arguments + call.arguments)

    def output(self) -> ChatOutput:
        """The finished answer."""
        return ChatOutput(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=[ToolCall(name=name, arguments=text) for _, (name, text) in sorted(self._calls.items())],
            output=self._choice.generation(),
        )
