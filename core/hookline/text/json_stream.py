"""JsonObjectScanner: follows one JSON object that arrives in pieces cut anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING_RUN = re.compile(r'[^"\\\x00-\x1f]+')
_HEX = frozenset("0123456789abcdefABCDEF")
_LITERALS = {"t": "true", "f": "false", "n": "null"}

# The grammar of numbers: state -> class of character -> next state.
_NUMBER = {
    "sign": {"0": "zero", "1": "int"},
    "zero": {".": "point", "e": "e"},
    "int": {"0": "int", "1": "int", ".": "point", "e": "e"},
    "point": {"0": "fraction", "1": "fraction"},
    "fraction": {"0": "fraction", "1": "fraction", "e": "e"},
    "e": {"0": "exponent", "1": "exponent", "+": "exponent_sign"},
    "exponent_sign": {"0": "exponent", "1": "exponent"},
    "exponent": {"0": "exponent", "1": "exponent"},
}
_NUMBER_ENDS = frozenset({"zero", "int", "fraction", "exponent"})
_NUMBER_CLASS = {"0": "0", ".": ".", "e": "e", "E": "e", "+": "+", "-": "+"} | dict.fromkeys("123456789", "1")


@dataclass(frozen=True, slots=True)
class MemberPiece:
    """Raw text of a member's value; the pieces of one member, joined, are one JSON document."""

    key: str
    raw: str
    is_last: bool


class JsonObjectScanner:
    """Checks a JSON object character by character and tells its top-level members as they come.

    What it answers, joined, does not depend on where the text was cut. It is as strict as RFC 8259, but for
    one thing: control characters inside strings, which models write for line breaks, are taken and come out
    escaped. Deeper nesting than ``max_depth`` is malformed.
    """

    def __init__(self, *, max_depth: int = 128) -> None:
        #: "open" while more is needed, "done" after the closing brace, "bad" at a character that cannot follow.
        self.status: Literal["open", "done", "bad"] = "open"
        self._max_depth = max_depth
        self._stack: list[str] = []
        self._expect = "start"
        self._step: Callable[[str, int], int] = self._structure
        self._key: str | None = None
        #: Raw text of the top-level key or value being read, since the last piece.
        self._raw: list[str] = []
        self._in_value = False
        self._in_key = False
        self._pieces: list[MemberPiece] = []
        self._escape = ""
        self._number = ""
        self._literal = ""

    def feed(self, text: str, start: int = 0) -> tuple[int, list[MemberPiece]]:
        """Read on from ``text[start]``.

        Returns how far it got (the end of ``text``, or just behind the object's closing brace, or the
        character that made it bad) and the pieces of values that were in between.
        """
        position, end = start, len(text)
        while position < end and self.status == "open":
            position = self._step(text, position)
        if self._in_value and self._raw:
            self._tell(is_last=False)
        pieces, self._pieces = self._pieces, []
        return position, pieces

    def _tell(self, *, is_last: bool) -> None:
        assert self._key is not None
        self._pieces.append(MemberPiece(self._key, "".join(self._raw), is_last))
        self._raw = []

    def _put(self, text: str) -> None:
        if self._in_value or self._in_key:
            self._raw.append(text)

    def _bad(self, position: int) -> int:
        self.status = "bad"
        return position

    def _structure(self, text: str, position: int) -> int:
        """White space, brackets, colons, commas, and the first character of values."""
        end = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if end > position:
            self._put(text[position:end])
            return end
        char, expect = text[position], self._expect
        if expect in ("value", "value_or_end") and char != "]":
            return self._value(char, position)
        if char == '"' and expect in ("key", "key_or_end"):
            self._in_key = len(self._stack) == 1
            return self._string(position)
        if char == ":" and expect == "colon":
            self._expect = "value"
        elif char == "," and expect == "comma_or_end":
            self._expect = "key" if self._stack[-1] == "{" else "value"
        elif char == "{" and expect == "start":
            self._stack.append(char)
            self._expect = "key_or_end"
        elif (char == "}" and expect in ("key_or_end", "comma_or_end") and self._stack[-1] == "{") or (
            char == "]" and expect in ("value_or_end", "comma_or_end") and self._stack[-1] == "["
        ):
            self._put(char)
            self._close()
            return position + 1
        else:
            return self._bad(position)
        self._put(char)
        return position + 1

    def _value(self, char: str, position: int) -> int:
        if not self._in_value:
            # The stack holds the object alone: this is a member's value.
            self._in_value = True
        if char == '"':
            return self._string(position)
        if char in "{[":
            if len(self._stack) >= self._max_depth:
                return self._bad(position)
            self._stack.append(char)
            self._expect = "key_or_end" if char == "{" else "value_or_end"
        elif char in _LITERALS:
            self._literal = _LITERALS[char][1:]
            self._step = self._in_literal
        elif char == "-" or (char.isascii() and char.isdigit()):
            self._number = "sign" if char == "-" else _NUMBER["sign"][_NUMBER_CLASS[char]]
            self._step = self._in_number
        else:
            return self._bad(position)
        self._put(char)
        return position + 1

    def _close(self) -> None:
        self._stack.pop()
        if self._stack:
            self._value_ended()
        else:
            self.status = "done"

    def _value_ended(self) -> None:
        self._step = self._structure
        self._expect = "comma_or_end"
        if len(self._stack) == 1:
            self._tell(is_last=True)
            self._in_value = False

    def _string(self, position: int) -> int:
        self._put('"')
        self._step = self._in_string
        return position + 1

    def _in_string(self, text: str, position: int) -> int:
        run = _STRING_RUN.match(text, position)
        if run:
            self._put(run.group())
            return run.end()
        char = text[position]
        if char == '"':
            self._put(char)
            self._string_ended()
        elif char == "\\":
            self._put(char)
            self._step = self._in_escape
        else:
            self._put(json.dumps(char)[1:-1])
        return position + 1

    def _in_escape(self, text: str, position: int) -> int:
        char = text[position]
        if self._escape:
            if char not in _HEX:
                return self._bad(position)
            self._escape = self._escape[1:]
        elif char == "u":
            self._escape = "xxxx"
        elif char not in '"\\/bfnrt':
            return self._bad(position)
        self._put(char)
        if not self._escape:
            self._step = self._in_string
        return position + 1

    def _string_ended(self) -> None:
        self._step = self._structure
        if self._expect in ("key", "key_or_end"):
            self._expect = "colon"
            if self._in_key:
                self._key = json.loads("".join(self._raw))
                self._raw = []
                self._in_key = False
        else:
            self._value_ended()

    def _in_number(self, text: str, position: int) -> int:
        following = _NUMBER[self._number].get(_NUMBER_CLASS.get(text[position], ""))
        if following is not None:
            self._number = following
            self._put(text[position])
            return position + 1
        if self._number not in _NUMBER_ENDS:
            return self._bad(position)
        self._value_ended()
        return position

    def _in_literal(self, text: str, position: int) -> int:
        if text[position] != self._literal[0]:
            return self._bad(position)
        self._put(text[position])
        self._literal = self._literal[1:]
        if not self._literal:
            self._value_ended()
        return position + 1


class JsonValueScanner(JsonObjectScanner):
    """The same for one JSON value of any kind: the keys of its pieces are "".

    "done" means behind the last character of the value; what follows was not read. A number at the end of the
    text may go on, so it stays "open".
    """

    def __init__(self, *, max_depth: int = 128) -> None:
        super().__init__(max_depth=max_depth + 1)
        super().feed('{"":')

    def _value_ended(self) -> None:
        super()._value_ended()
        if len(self._stack) == 1:
            self.status = "done"
