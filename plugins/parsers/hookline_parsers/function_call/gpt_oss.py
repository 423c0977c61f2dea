"""Calls of gpt-oss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hookline.formats.answer import CallAnswer
from hookline.formats.description import WrittenCalls
from hookline.formats.tape import Steps, Tape
from hookline.formats.values import ToolTypes
from hookline.formats.wire import MAX_CALLS, required_calls, triggered_calls
from hookline.interfaces.parsers import FunctionCallDelta, FunctionCallParser, UnknownFunctions
from hookline.text.json_stream import JsonValueScanner
from hookline_parsers.harmony import CHANNEL, CONSTRAIN, ENDS, MARKERS, MESSAGE, Header, read_header

_FUNCTIONS = "functions."
_WRITTEN = WrittenCalls(
    # Behind the arguments the model ends its turn.
    call_open=f"{CHANNEL}commentary to={_FUNCTIONS}{{name}} {CONSTRAIN}json{MESSAGE}",
    call_close="",
    trigger=f"{CHANNEL}commentary to=",
    is_single=True,
)


class GptOssCallParser(FunctionCallParser):
    """``<|channel|>commentary to=functions.f <|constrain|>json<|message|>{...}<|call|>``.

    See ``hookline_parsers.harmony``. A message to another recipient is a call of that name. A message to a
    recipient that holds no JSON object is content, word for word; of messages without one only the text is content,
    but for ``analysis``, which is the reasoning parser's.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]], *, unknown_functions: UnknownFunctions = "call") -> None:
        super().__init__(tools, unknown_functions=unknown_functions)
        self._types = ToolTypes(tools)
        self._tape = Tape()
        self._answer = CallAnswer()
        #: Whether text belongs to a message of which the frame is dropped.
        self._is_framed = False
        self._steps = self._read()
        next(self._steps)

    @classmethod
    def required_calls(cls, tools: Sequence[Mapping[str, Any]], *, max_calls: int = MAX_CALLS) -> Mapping[str, Any]:
        return required_calls(_WRITTEN, tools, max_calls=max_calls)

    @classmethod
    def triggered_calls(cls, tools: Sequence[Mapping[str, Any]], *, max_calls: int = MAX_CALLS) -> Mapping[str, Any]:
        return triggered_calls(_WRITTEN, tools, max_calls=max_calls)

    def feed(self, text: str) -> FunctionCallDelta:
        if text:
            self._tape.feed(text)
            next(self._steps)
        return self._answer.take()

    def finish(self) -> FunctionCallDelta:
        self._tape.end()
        next(self._steps, None)
        self._answer.end()
        return self._answer.take()

    def _read(self) -> Steps[None]:
        yield
        tape = self._tape
        while True:
            before, marker, held = MARKERS.split(tape.rest)
            self._answer.content(before)
            tape.at += len(before)
            if marker is None:
                if tape.has_ended:
                    self._answer.content(held)
                    return
                yield
            elif marker in ENDS and self._is_framed:
                tape.at += len(marker)
                self._is_framed = False
            else:
                yield from self._message(marker)

    def _message(self, marker: str) -> Steps[None]:
        tape = self._tape
        tape.mark()
        header = None if marker in ENDS else (yield from read_header(tape))
        if header is not None and header.recipient:
            if (yield from self._call(header)):
                return
        elif header is not None and header.channel != "analysis":
            tape.unmark()
            self._is_framed = True
            return
        # Reasoning stays as it is, its end too.
        self._is_framed &= header is None
        tape.back()
        tape.at += len(marker)
        self._answer.content(marker)

    def _call(self, header: Header) -> Steps[bool]:
        """The arguments of a call, told as they come; false if there are none."""
        tape = self._tape
        name = header.recipient.removeprefix(_FUNCTIONS)
        if not name or (self.unknown_functions == "content" and not self._types.knows(name)):
            return False
        yield from tape.space()
        if (yield from tape.peek()) != "{":
            if (yield from tape.literal(ENDS)) is None:
                return False
            self._tell(name)
            self._answer.arguments("{}")
            return True
        self._tell(name)
        scanner = JsonValueScanner()
        while True:
            tape.at, pieces = scanner.feed(tape.text, tape.at)
            self._answer.arguments("".join(piece.raw for piece in pieces))
            if scanner.status == "done":
                # Behind the arguments the frame of the message ends.
                self._is_framed = True
                return True
            if scanner.status == "bad" or tape.has_ended:
                self._answer.incomplete()
                return True
            yield

    def _tell(self, name: str) -> None:
        self._tape.unmark()
        self._answer.call(name)
        self._is_framed = False
