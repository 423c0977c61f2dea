"""The reasoning of gpt-oss."""

from __future__ import annotations

from hookline.formats.tape import Steps, Tape
from hookline.interfaces.parsers import ReasoningContext, ReasoningDelta, ReasoningParser, ReasoningSpan
from hookline_parsers.harmony import CHANNEL, ENDS, MARKERS, MESSAGE, START, Header, read_header

_ANALYSIS = f"{CHANNEL}analysis{MESSAGE}"


class GptOssReasoningParser(ReasoningParser):
    """The text of ``analysis`` messages is reasoning, that of all others content: see ``hookline_parsers.harmony``.

    Messages to a recipient are calls of functions and stay as they are, for the parser of calls. Messages of one
    kind are joined by a line break. Text outside of messages is content.
    """

    def __init__(self, context: ReasoningContext) -> None:
        super().__init__(context)
        self._tape = Tape()
        self._header: Header | None = None
        #: Whether the next text of a kind begins a message behind another one of its kind.
        self._has_reasoning = self._has_content = False
        self._is_fresh = False
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._steps = self._read()
        next(self._steps)

    def span(self) -> ReasoningSpan:
        """Of the first message, if that is reasoning: behind it stands the head of the next."""
        return ReasoningSpan(
            open=_ANALYSIS,
            close=f"<|end|>{START}assistant",
            state="open" if self.context.prompt_tail.endswith(_ANALYSIS) else "possible",
            answer_open=f"{CHANNEL}final{MESSAGE}",
        )

    def feed(self, text: str) -> ReasoningDelta:
        if text:
            self._tape.feed(text)
            next(self._steps)
        return self._take()

    def finish(self) -> ReasoningDelta:
        self._tape.end()
        next(self._steps, None)
        return self._take()

    def _read(self) -> Steps[None]:
        yield
        tape = self._tape
        while True:
            before, marker, held = MARKERS.split(tape.rest)
            self._put(before)
            tape.at += len(before)
            if marker is None:
                if tape.has_ended:
                    self._put(held)
                    return
                yield
            elif marker in ENDS:
                tape.at += len(marker)
                self._end(marker)
            else:
                tape.mark()
                header = yield from read_header(tape)
                if header is None:
                    tape.back()
                    tape.at += len(marker)
                    self._put(marker)
                else:
                    self._begin(header, tape.since_mark())
                    tape.unmark()

    def _begin(self, header: Header, raw: str) -> None:
        self._header = header
        self._is_fresh = True
        if header.recipient:
            self._put(raw)

    def _end(self, marker: str) -> None:
        if self._header is None or self._header.recipient:
            self._put(marker)
        self._header = None

    def _put(self, text: str) -> None:
        if not text:
            return
        is_reasoning = self._header is not None and self._header.channel == "analysis" and not self._header.recipient
        had_text = self._has_reasoning if is_reasoning else self._has_content
        parts = self._reasoning if is_reasoning else self._content
        if self._is_fresh and had_text:
            parts.append("\n")
        parts.append(text)
        self._is_fresh = False
        self._has_reasoning |= is_reasoning
        self._has_content |= not is_reasoning

    def _take(self) -> ReasoningDelta:
        delta = ReasoningDelta("".join(self._reasoning), "".join(self._content))
        self._reasoning.clear()
        self._content.clear()
        return delta
