"""CallReader: finds the calls of a described format in text that arrives in pieces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hookline.formats.answer import CallAnswer
from hookline.formats.description import Block, CallFormat, JsonArguments, JsonCall, NamedCall, Parameters
from hookline.formats.json_call import JsonCallBody
from hookline.formats.markers import Markers
from hookline.formats.parameters import ParameterReader
from hookline.formats.python_arguments import PythonReader
from hookline.formats.tape import SPACE, Steps, Tape
from hookline.formats.values import ToolTypes
from hookline.text.json_stream import JsonValueScanner

#: Characters that may stand in place of a name.
_MAX_NAME = 256
_NAME_SO_FAR = re.compile(r"\s*[\w.:/\-\[\]]*\s*")

#: What came of a place where a call may stand.
Outcome = Literal["none", "whole", "broken"]


class CallReader:
    """One pass over one output.

    A call is told as soon as its name is known and its arguments have begun. What stands behind an opening
    marker and is no call is content, marker included, and is read again, since it may hold another marker. A
    told call that breaks off is marked incomplete, and what follows is content.
    """

    def __init__(self, form: CallFormat, tools: Sequence[Mapping[str, Any]], *, keeps_unknown: bool) -> None:
        self.answer = CallAnswer()
        self._form = form
        self._types = ToolTypes(tools)
        self._keeps_unknown = keeps_unknown
        self._tape = Tape()
        self._openings = tuple(dict.fromkeys(opening for block in form.blocks for opening in block.open))
        #: A block whose closing marker is still to come; its calls may go on behind content.
        self._unclosed: Block | None = None
        self._steps = self._read()
        next(self._steps)

    def feed(self, text: str) -> None:
        """Read the next piece."""
        if text:
            self._tape.feed(text)
            next(self._steps)

    def finish(self) -> None:
        """The output has ended."""
        self._tape.end()
        next(self._steps, None)
        self.answer.end()

    def _read(self) -> Steps[None]:
        yield
        yield from self._start()
        while True:
            marker = yield from self._content()
            if marker is None:
                return
            yield from self._marker(marker)

    def _start(self) -> Steps[None]:
        """A block that needs no marker at the start of the output."""
        for block in self._form.blocks:
            if not block.at_start:
                continue
            self._tape.mark()
            yield from self._tape.space()
            found = yield from self._tape.literal(block.at_start)
            if found is not None:
                self._tape.at -= len(found)
                if (yield from self._block(block)):
                    return
            self._tape.back()

    def _content(self) -> Steps[str | None]:
        """Content up to the next marker, which is not read."""
        tape, markers = self._tape, self._markers()
        while markers is not None:
            before, marker, held = markers.split(tape.rest)
            self.answer.content(before)
            tape.at += len(before)
            if marker is not None:
                return marker
            if tape.has_ended:
                self.answer.content(held)
                return None
            yield
        while True:
            self.answer.content(tape.rest)
            tape.at = len(tape.text)
            if tape.has_ended:
                return None
            yield

    def _markers(self) -> Markers | None:
        found = list(self._openings)
        if self._unclosed is not None:
            call = self._unclosed.call
            found += call.open[:1] if isinstance(call, NamedCall) else ()
            found += self._unclosed.close
        return Markers(*dict.fromkeys(found)) if found else None

    def _marker(self, marker: str) -> Steps[None]:
        tape, unclosed = self._tape, self._unclosed
        if unclosed is not None and marker not in self._openings:
            if marker in unclosed.close:
                tape.at += len(marker)
                self._unclosed = None
                return
            tape.mark()
            if (yield from self._block(unclosed)):
                return
            tape.back()
        for block in self._form.blocks:
            if marker not in block.open:
                continue
            tape.mark()
            tape.at += len(marker)
            if (yield from self._block(block)):
                return
            tape.back()
        self.answer.content(marker)
        tape.at += len(marker)

    def _block(self, block: Block) -> Steps[bool]:
        """The inside of a block, up to its end or to what is none of it; false if it holds no call.

        The mark is set where the block began; it is still there if the answer is false.
        """
        tape, has_call = self._tape, False
        while True:
            if has_call:
                tape.mark()
            closers = yield from self._between(block)
            if closers is not None and has_call:
                tape.unmark()
                self._unclosed = None
                yield from self._closers(closers)
                return True
            outcome: Outcome = "none"
            if closers is None and (block.repeats or not has_call):
                outcome = yield from self._call(block)
            if outcome == "none" and not has_call:
                return False
            if outcome == "none":
                tape.back()
            if outcome != "whole":
                has_own_opening = isinstance(block.call, NamedCall) and block.call.open
                self._unclosed = block if has_own_opening else None
                return True
            has_call = True

    def _between(self, block: Block) -> Steps[Sequence[str] | None]:
        """White space and punctuation; behind the closing marker what may follow it, otherwise ``None``."""
        while True:
            yield from self._tape.space()
            found = yield from self._tape.literal((*block.fillers, *block.close))
            if found is None:
                return None
            if found in block.close:
                return block.close[block.close.index(found) + 1 :]

    def _closers(self, closers: Sequence[str]) -> Steps[None]:
        tape = self._tape
        while closers:
            tape.mark()
            yield from tape.space()
            found = yield from tape.literal(closers)
            if found is None:
                tape.back()
                return
            tape.unmark()
            closers = closers[closers.index(found) + 1 :]

    def _tell(self, name: str) -> bool:
        """Tell a call, unless it is to stay content."""
        if not self._keeps_unknown and not self._types.knows(name):
            return False
        self._tape.unmark()
        self.answer.call(name)
        return True

    def _call(self, block: Block) -> Steps[Outcome]:
        if isinstance(block.call, JsonCall):
            outcome = yield from self._json_call(block.call)
        else:
            outcome = yield from self._named_call(block, block.call)
        if outcome == "broken":
            self.answer.incomplete()
        return outcome

    def _json_call(self, call: JsonCall) -> Steps[Outcome]:
        tape = self._tape
        if (yield from tape.peek()) != "{":
            return "none"
        body, is_told = JsonCallBody(call), False
        while True:
            tape.at = body.feed(tape.text, tape.at)
            if body.is_call and not is_told:
                is_told = body.name is not None and self._tell(body.name)
                if not is_told:
                    return "none"
            if is_told:
                self.answer.arguments(body.take_arguments())
            if body.has_failed or body.has_ended or tape.has_ended:
                break
            yield
        if not is_told:
            return "none"
        return "whole" if body.is_complete else "broken"

    def _named_call(self, block: Block, call: NamedCall) -> Steps[Outcome]:
        tape = self._tape
        for opening in call.open:
            yield from tape.space()
            if (yield from tape.literal((opening,))) is None:
                return "none"
        name = yield from self._name(block, call)
        if name is None:
            return "none"
        if isinstance(call.arguments, Parameters):
            outcome = yield from self._parameters(name, call.arguments, (*call.close, *block.close))
        elif isinstance(call.arguments, JsonArguments):
            outcome = yield from self._json_arguments(name, (*call.close, *block.close))
        else:
            outcome = yield from self._python_arguments(name)
        if outcome == "whole":
            yield from self._closers(call.close)
        return outcome

    def _name(self, block: Block, call: NamedCall) -> Steps[str | None]:
        tape, ends = self._tape, call.name_end
        if not ends and isinstance(call.arguments, Parameters):
            ends = (call.arguments.open, *call.close, *block.close)
        markers = Markers(*dict.fromkeys(ends))
        while True:
            before, end, _ = markers.split(tape.rest)
            if len(before) > _MAX_NAME or _NAME_SO_FAR.fullmatch(before) is None:
                return None
            if end is not None:
                break
            if tape.has_ended:
                return None
            yield
        match = re.fullmatch(call.name, before.strip(SPACE))
        if match is None:
            return None
        tape.at += len(before) + (len(end) if end in call.name_end else 0)
        return match["name"]

    def _parameters(self, name: str, parameters: Parameters, ends: Sequence[str]) -> Steps[Outcome]:
        tape = self._tape
        if parameters.or_json:
            yield from tape.space()
            if (yield from tape.peek()) == "{":
                return (yield from self._json_arguments(name, ends))
        if not self._tell(name):
            return "none"
        reader = ParameterReader(parameters, tape, self.answer, self._types, name)
        return "whole" if (yield from reader.read(ends)) else "broken"

    def _json_arguments(self, name: str, ends: Sequence[str]) -> Steps[Outcome]:
        tape = self._tape
        yield from tape.space()
        if (yield from tape.peek()) != "{":
            end = yield from tape.literal(ends)
            if end is None or not self._tell(name):
                return "none"
            tape.at -= len(end)
            self.answer.arguments("{}")
            return "whole"
        if not self._tell(name):
            return "none"
        scanner = JsonValueScanner()
        while True:
            tape.at, pieces = scanner.feed(tape.text, tape.at)
            self.answer.arguments("".join(piece.raw for piece in pieces))
            if scanner.status == "done":
                return "whole"
            if scanner.status == "bad" or tape.has_ended:
                return "broken"
            yield

    def _python_arguments(self, name: str) -> Steps[Outcome]:
        """A call is told at its first keyword or at its closing bracket: brackets alone are common in text."""
        tape = self._tape
        yield from tape.space()
        if (yield from tape.literal((")",))):
            if not self._tell(name):
                return "none"
            self.answer.arguments("{}")
            return "whole"
        reader = PythonReader(tape, self.answer.arguments)
        keyword = yield from reader.keyword()
        if keyword is None or not self._tell(name):
            return "none"
        return "whole" if (yield from reader.arguments(keyword)) else "broken"
