"""PythonArguments as JSON: the keyword arguments of a call, of which all values are literals."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable

from hookline.formats.tape import SPACE, Steps, Tape
from hookline.formats.values import quote, quoted_part

#: As deep as JSON may be.
_MAX_DEPTH = 64
_MAX_WORD = 256
_KEYWORD = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)")
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_ESCAPES = {"n": "\\n", "t": "\\t", "r": "\\r", "b": "\\b", "f": "\\f", "\\": "\\\\", "'": "'", '"': '\\"', "\n": ""}
_ESCAPES |= {"a": "\\u0007", "v": "\\u000b", "0": "\\u0000"}
_CODES = {"x": 2, "u": 4, "U": 8}
_RUN = re.compile(r"""[^"'\\]+""")
_NOT_WORD = SPACE + ",:()[]{}=\"'"


class PythonReader:
    """Reads values from a tape and tells them as JSON text, piece by piece."""

    def __init__(self, tape: Tape, tell: Callable[[str], None]) -> None:
        self._tape = tape
        self._tell = tell

    def keyword(self) -> Steps[str | None]:
        """``name=``, read; ``None`` if something else stands there."""
        tape = self._tape
        word = yield from self._word()
        if _KEYWORD.fullmatch(word) is None:
            return None
        yield from tape.space()
        if (yield from tape.peek()) != "=":
            return None
        tape.at += 1
        return word

    def arguments(self, first: str) -> Steps[bool]:
        """The values of keywords, of which the first was read, to the closing bracket; false if they break off."""
        tape, keys = self._tape, {first}
        self._tell("{" + quote(first) + ": ")
        while True:
            if not (yield from self.value()):
                return False
            yield from tape.space()
            found = yield from tape.literal((",", ")"))
            if found == ",":
                yield from tape.space()
                found = yield from tape.literal((")",))
                key = None if found else (yield from self.keyword())
                if key is not None and key not in keys:
                    keys.add(key)
                    self._tell(", " + quote(key) + ": ")
                    continue
            if found == ")":
                self._tell("}")
            return found == ")"

    def value(self, depth: int = 0) -> Steps[bool]:
        """One literal; false if there is none."""
        tape = self._tape
        yield from tape.space()
        char = yield from tape.peek()
        if char in ("'", '"') and char:
            return (yield from self._string())
        if char and char in "[({":
            tape.at += 1
            return depth < _MAX_DEPTH and (yield from self._items(char, depth + 1))
        word = yield from self._word()
        text = _WORDS.get(word) or _number(word)
        if text is not None:
            self._tell(text)
        return text is not None

    def _items(self, bracket: str, depth: int) -> Steps[bool]:
        tape, close = self._tape, {"[": "]", "(": ")", "{": "}"}[bracket]
        self._tell("{" if bracket == "{" else "[")
        is_first = True
        while True:
            yield from tape.space()
            if (yield from tape.literal((close,))):
                self._tell("}" if bracket == "{" else "]")
                return True
            if not is_first:
                self._tell(", ")
            is_first = False
            if bracket == "{" and not (yield from self._key()):
                return False
            if not (yield from self.value(depth)):
                return False
            yield from tape.space()
            if (yield from tape.peek()) == ",":
                tape.at += 1
            elif (yield from tape.peek()) != close:
                return False

    def _key(self) -> Steps[bool]:
        """A string and a colon."""
        tape = self._tape
        if (yield from tape.peek()) not in ("'", '"') or tape.at >= len(tape.text):
            return False
        if not (yield from self._string()):
            return False
        yield from tape.space()
        if (yield from tape.literal((":",))) is None:
            return False
        self._tell(": ")
        return True

    def _string(self) -> Steps[bool]:
        tape = self._tape
        delimiter = tape.text[tape.at]
        tape.at += 1
        self._tell('"')
        while True:
            char = yield from tape.peek()
            if not char:
                return False
            if char == delimiter:
                tape.at += 1
                self._tell('"')
                return True
            run = _RUN.match(tape.text, tape.at)
            if run:
                self._tell(quoted_part(run.group()))
                tape.at = run.end()
            elif char != "\\":
                self._tell(quoted_part(char))
                tape.at += 1
            elif not (yield from self._escape()):
                return False

    def _escape(self) -> Steps[bool]:
        tape = self._tape
        tape.at += 1
        char = yield from tape.peek()
        if not char:
            return False
        tape.at += 1
        if char not in _CODES:
            self._tell(_ESCAPES.get(char, "\\\\" + quoted_part(char)))
            return True
        digits = ""
        while len(digits) < _CODES[char]:
            digit = yield from tape.peek()
            if not digit or digit not in string.hexdigits:
                return False
            digits += digit
            tape.at += 1
        code = int(digits, 16)
        if code > 0x10FFFF:
            return False
        # Halves of a surrogate pair stay escapes, which JSON joins.
        self._tell(f"\\u{code:04x}" if code < 0x10000 else quoted_part(chr(code)))
        return True

    def _word(self) -> Steps[str]:
        """Characters up to white space or punctuation."""
        tape, word = self._tape, ""
        while len(word) < _MAX_WORD:
            char = yield from tape.peek()
            if not char or char in _NOT_WORD:
                break
            word += char
            tape.at += 1
        return word


def _number(word: str) -> str | None:
    if _NUMBER.fullmatch(word) is None:
        return None
    digits = word.replace("_", "").removeprefix("+")
    if "x" in digits.lower():
        return str(int(digits, 16))
    if digits.lstrip("-").isdigit():
        sign = "-" if digits.startswith("-") else ""
        return sign + (digits.lstrip("-").lstrip("0") or "0")
    value = float(digits)
    return json.dumps(value) if value - value == 0 else None
