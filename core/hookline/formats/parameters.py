"""ParameterReader: arguments that are written one by one between markers, as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from hookline.formats.answer import CallAnswer
from hookline.formats.description import Parameters
from hookline.formats.markers import Markers
from hookline.formats.tape import Steps, Tape
from hookline.formats.values import TEXT, ToolTypes, json_of, json_or_text, quote, quoted_part

#: Characters of a key.
_MAX_KEY = 1024


class ParameterReader:
    """Reads the parameters of one call.

    A value that can only be a string is told while it is written. What the text of any other value stands for
    is known at its end, so it waits. Of a key that comes twice the first counts.
    """

    def __init__(self, parameters: Parameters, tape: Tape, answer: CallAnswer, types: ToolTypes, function: str) -> None:
        self._parameters = parameters
        self._tape = tape
        self._answer = answer
        self._types = types
        self._function = function
        self._key_ends = Markers(*parameters.key_ends)
        self._close = Markers(parameters.close)
        self._keys: set[str] = set()

    def read(self, ends: Sequence[str]) -> Steps[bool]:
        """Read up to one of ``ends``, which is left unread; false if the call breaks off."""
        tape = self._tape
        while True:
            yield from tape.space()
            found = yield from tape.literal((self._parameters.open, *ends))
            if found is None:
                return False
            if found != self._parameters.open:
                tape.at -= len(found)
                self._answer.arguments("}" if self._keys else "{}")
                return True
            if not (yield from self._parameter()):
                return False

    def _parameter(self) -> Steps[bool]:
        tape = self._tape
        while True:
            before, end, _ = self._key_ends.split(tape.rest)
            if len(before) > _MAX_KEY:
                return False
            if end is not None:
                break
            if tape.has_ended:
                return False
            yield
        tape.at += len(before) + len(end)
        if self._parameters.value_open:
            yield from tape.space()
            if (yield from tape.literal((self._parameters.value_open,))) is None:
                return False
        key = before.strip()
        is_new = key not in self._keys
        if is_new:
            self._answer.arguments((", " if self._keys else "{") + quote(key) + ": ")
            self._keys.add(key)
        if self._parameters.lines and (yield from tape.peek()) == "\n":
            tape.at += 1
        rule = self._parameters.key_ends[end]
        types = self._types.of(self._function, key) if rule == "schema" else TEXT if rule == "text" else None
        if types == TEXT or not is_new:
            return (yield from self._text(is_told=is_new))
        value = yield from self._whole()
        if value is not None:
            self._answer.arguments(json_or_text(value) if rule == "json" else json_of(value, types))
        return value is not None

    def _text(self, *, is_told: bool) -> Steps[bool]:
        """A string, told as it comes."""
        tape = self._tape
        if is_told:
            self._answer.arguments('"')
        while True:
            before, end, _ = self._close.split(tape.rest)
            # A line break before the closing marker belongs to the frame.
            body = before.removesuffix("\n") if self._parameters.lines else before
            kept = body if end is not None or not tape.has_ended else tape.rest
            if is_told:
                self._answer.arguments(quoted_part(kept))
            tape.at += len(kept)
            if end is not None:
                tape.at += len(before) - len(body) + len(end)
                if is_told:
                    self._answer.arguments('"')
                return True
            if tape.has_ended:
                return False
            yield

    def _whole(self) -> Steps[str | None]:
        """The text of a value, once it has ended."""
        tape = self._tape
        parts: list[str] = []
        while True:
            before, end, _ = self._close.split(tape.rest)
            parts.append(before)
            tape.at += len(before)
            if end is not None:
                tape.at += len(end)
                text = "".join(parts)
                return text.removesuffix("\n") if self._parameters.lines else text
            if tape.has_ended:
                return None
            yield
