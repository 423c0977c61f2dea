"""Output parsers: split a model's text into reasoning, content and tool calls.

A parser is fed text in pieces cut anywhere and must answer the same events, joined, for every way of
cutting: a stream and a whole answer never differ. It may hold text back while it could still be the start
of a marker; ``finish`` flushes it. Nothing that the model wrote is lost but markers, and white space next to
them. A parser never raises on output: what it does not understand is content.

Parsers run on the server's event loop, once per piece: no I/O, no locks, and work in proportion to the piece.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from hookline.interfaces.spec import Spec

#: What becomes of a call to a function that the request does not list: "call", so that the caller can answer the
#: model, or "content", word for word as the model wrote it.
UnknownFunctions = Literal["call", "content"]
#: Characters of the prompt's end that a reasoning parser sees.
PROMPT_TAIL = 512
#: Whether output begins inside of its reasoning, may begin it, or has none because the prompt closed it.
SpanState = Literal["open", "possible", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningParserSpec(Spec):
    """A reasoning format (provisional). ``target`` is a subclass of ``ReasoningParser``, called with a
    ``ReasoningContext`` for each choice of each request."""

    kind: ClassVar[str] = "reasoning_parsers"
    target_base: ClassVar[str] = "hookline.interfaces.parsers:ReasoningParser"

    #: Strings that all occur in the chat template of a model that writes this format; ``auto`` takes the
    #: best spec for which they do. Empty: never taken by ``auto``.
    template_markers: tuple[str, ...] = ()
    #: Whether the markers are special tokens, which answers then keep in their text. Of calls this is assumed.
    special_markers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCallParserSpec(Spec):
    """A tool-call format (provisional). ``target`` is a subclass of ``FunctionCallParser``, called with the
    request's tools for each choice of each request."""

    kind: ClassVar[str] = "function_call_parsers"
    target_base: ClassVar[str] = "hookline.interfaces.parsers:FunctionCallParser"

    #: As in ``ReasoningParserSpec``.
    template_markers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningContext:
    """What a reasoning parser may know of its request."""

    #: The end of the rendered prompt, so that a parser sees whether the template opened the reasoning.
    prompt_tail: str
    #: ``chat_template_kwargs`` of the request.
    template_kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningSpan:
    """Where the reasoning of one output stands, for what may begin only behind it."""

    #: What begins reasoning that the prompt has not begun.
    open: str
    #: What ends it. Several tokens or one.
    close: str
    state: SpanState
    #: Markers of what follows that end it too, where they are one token.
    exits: tuple[str, ...] = ()
    #: What stands before an answer that is no call.
    answer_open: str = ""


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Text of a piece, split. Both may be empty."""

    reasoning: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of one tool call. The first piece of a call carries ``name``; later ones only ``arguments``.

    ``index`` counts calls from 0. The joined arguments of a complete call are one JSON document.
    """

    index: int
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class FunctionCallDelta:
    """Plain text and tool-call pieces of one piece of output."""

    content: str = ""
    calls: Sequence[ToolCallDelta] = ()
    #: True once if the arguments of a call that was already told end before their JSON document does,
    #: because the output ended there or turned out malformed.
    incomplete: bool = False


class ReasoningParser(ABC):
    """Splits reasoning from content."""

    def __init__(self, context: ReasoningContext) -> None:
        self.context = context

    def span(self) -> ReasoningSpan | None:
        """Where the reasoning of this output stands. ``None``: the format does not say, and neither can it be
        bounded, nor does anything constrain what follows it."""
        return None

    @abstractmethod
    def feed(self, text: str) -> ReasoningDelta:
        """Take the next piece of output."""

    @abstractmethod
    def finish(self) -> ReasoningDelta:
        """The output has ended: give what was held back. Called once."""


class FunctionCallParser(ABC):
    """Finds tool calls in content. ``tools`` are the request's OpenAI tool objects.

    A call to a function that they do not list stays a call with ``unknown_functions`` "call", and is content with
    "content".
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]], *, unknown_functions: UnknownFunctions = "call") -> None:
        self.tools = tools
        self.unknown_functions = unknown_functions

    @classmethod
    def required_calls(cls, tools: Sequence[Mapping[str, Any]], *, max_calls: int) -> Mapping[str, Any] | None:
        """The format, as structural tags have them, of one call or more of these tools, up to ``max_calls``, as the
        model writes them, and of nothing else. ``None``: the format does not say, and calls cannot be demanded in it.
        """
        return None

    @classmethod
    def triggered_calls(cls, tools: Sequence[Mapping[str, Any]], *, max_calls: int) -> Mapping[str, Any] | None:
        """The same of any text in which a call, once it has begun, is whole, and follows its schema if its function
        is ``strict``. With ``max_calls`` of 1 the output ends behind the first call."""
        return None

    @abstractmethod
    def feed(self, text: str) -> FunctionCallDelta:
        """Take the next piece of output."""

    @abstractmethod
    def finish(self) -> FunctionCallDelta:
        """The output has ended: give what was held back. Called once."""
