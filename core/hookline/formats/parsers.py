"""DescribedCallParser, DescribedReasoningParser: parsers that are descriptions and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hookline.formats.calls import CallReader
from hookline.formats.description import CallFormat, ReasoningFormat
from hookline.formats.markers import Markers
from hookline.formats.tape import SPACE
from hookline.formats.wire import MAX_CALLS, required_calls, triggered_calls
from hookline.interfaces.parsers import (
    FunctionCallDelta,
    FunctionCallParser,
    ReasoningContext,
    ReasoningDelta,
    ReasoningParser,
    ReasoningSpan,
    SpanState,
    UnknownFunctions,
)


class DescribedCallParser(FunctionCallParser):
    """Finds the calls of ``form``; a format is a subclass that sets it.

    - A call is told as soon as its name is known and its arguments have begun; its arguments follow as they are
      written. Only what may be a marker, or what a value's end decides, waits.
    - What stands behind an opening marker and is no call is content, marker included.
    - A call whose arguments break off is marked incomplete; text behind the break is content.
    - White space around calls is dropped, except that what stood before a call comes back if content follows.
    - Closing markers may be missing, or cut off by the end of the output.
    """

    form: ClassVar[CallFormat]

    def __init__(self, tools: Sequence[Mapping[str, Any]], *, unknown_functions: UnknownFunctions = "call") -> None:
        super().__init__(tools, unknown_functions=unknown_functions)
        self._reader = CallReader(self.form, tools, keeps_unknown=unknown_functions == "call")

    @classmethod
    def required_calls(cls, tools: Sequence[Mapping[str, Any]], *, max_calls: int = MAX_CALLS) -> Mapping[str, Any]:
        return required_calls(cls.form.written, tools, max_calls=max_calls)

    @classmethod
    def triggered_calls(cls, tools: Sequence[Mapping[str, Any]], *, max_calls: int = MAX_CALLS) -> Mapping[str, Any]:
        return triggered_calls(cls.form.written, tools, max_calls=max_calls)

    def feed(self, text: str) -> FunctionCallDelta:
        self._reader.feed(text)
        return self._reader.answer.take()

    def finish(self) -> FunctionCallDelta:
        self._reader.finish()
        return self._reader.answer.take()


class DescribedReasoningParser(ReasoningParser):
    """Splits the reasoning of ``form`` from content; a format is a subclass that sets it.

    There may be several blocks. White space, the same for whole answers and streams:

    - around each block of reasoning it is dropped, and blocks are joined by one line break;
    - behind a closing marker it is dropped, and before an opening one too unless content came before it;
    - everything else is kept.

    Output that ends inside a block is reasoning. A closing marker outside of a block is content.
    """

    form: ClassVar[ReasoningFormat]

    def __init__(self, context: ReasoningContext) -> None:
        super().__init__(context)
        form = self.form
        self._markers = Markers(form.open, form.close, *form.ends_before)
        tail = context.prompt_tail.rstrip(SPACE)
        self._is_closed = tail.endswith(form.close)
        self._is_reasoning = tail.endswith(form.open) or (form.starts_open and not self._is_closed)
        self._begins_inside = self._is_reasoning
        #: Text that may be the start of a marker.
        self._held = ""
        #: White space that is given only if text of the same kind follows.
        self._space = ""
        #: Nothing of the current stretch was given yet, and its leading white space is dropped.
        self._is_fresh = self._is_reasoning
        self._has_reasoning = False
        self._has_content = False
        self._reasoning: list[str] = []
        self._content: list[str] = []

    def span(self) -> ReasoningSpan:
        form = self.form
        state: SpanState = "open" if self._begins_inside else "closed" if self._is_closed else "possible"
        return ReasoningSpan(open=form.open, close=form.close, state=state, exits=tuple(form.ends_before))

    def feed(self, text: str) -> ReasoningDelta:
        rest = self._held + text
        while True:
            before, marker, rest = self._markers.split(rest)
            self._put(before)
            if marker is None:
                break
            self._pass(marker)
        self._held = rest
        return self._take()

    def finish(self) -> ReasoningDelta:
        self._put(self._held)
        if not self._is_reasoning:
            self._content.append(self._space)
        self._held = self._space = ""
        return self._take()

    def _pass(self, marker: str) -> None:
        if marker == self.form.open and self._is_reasoning:
            # The model repeats the marker that the template wrote.
            return
        if marker != self.form.open and not self._is_reasoning:
            self._put(marker)
            return
        self._is_reasoning = marker == self.form.open
        self._is_fresh = True
        self._space = ""
        if marker in self.form.ends_before:
            self._put(marker)

    def _put(self, text: str) -> None:
        if self._is_fresh:
            text = text.lstrip(SPACE)
        if not text:
            return
        if self._is_reasoning:
            self._put_reasoning(text)
        else:
            self._put_content(text)
        self._is_fresh = False

    def _put_reasoning(self, text: str) -> None:
        body = text.rstrip(SPACE)
        if body:
            separator = "\n" if self._is_fresh and self._has_reasoning else ""
            self._reasoning.append(separator + self._space + body)
            self._has_reasoning = True
            self._space = ""
        self._space += text[len(body) :]

    def _put_content(self, text: str) -> None:
        self._space += text
        # White space before any content is given only once it is clear that no block follows it.
        if self._has_content or text.lstrip(SPACE):
            self._content.append(self._space)
            self._has_content = True
            self._space = ""

    def _take(self) -> ReasoningDelta:
        delta = ReasoningDelta("".join(self._reasoning), "".join(self._content))
        self._reasoning.clear()
        self._content.clear()
        return delta
