"""Tape: text that arrives in pieces, and steps that read it without knowing how it was cut."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import TypeVar

T = TypeVar("T")

#: A step of a reader: it yields when it needs more text, and returns its result. Whoever drives it resumes it
#: after each piece, and for the last time after ``Tape.end``.
Steps = Generator[None, None, T]

SPACE = " \t\n\r"
_SPACES = re.compile(r"[ \t\n\r]*")


class Tape:
    """The text that was not read yet, and a place in it.

    Steps decide on characters alone: where two continuations are possible they wait for more. So what they
    find is the same for every way of cutting the text.
    """

    def __init__(self) -> None:
        self.text = ""
        #: Where the next step reads on.
        self.at = 0
        #: Whether nothing will follow.
        self.has_ended = False
        self._mark: int | None = None

    def feed(self, piece: str) -> None:
        """Append a piece; what was read before it and is not marked is dropped."""
        start = self.at if self._mark is None else self._mark
        self.text = self.text[start:] + piece if start < len(self.text) else piece
        self.at -= start
        if self._mark is not None:
            self._mark = 0

    def end(self) -> None:
        """Nothing will follow."""
        self.has_ended = True

    @property
    def rest(self) -> str:
        """What is there and not read yet."""
        return self.text[self.at :]

    # --- going back ---

    def mark(self) -> None:
        """Keep everything from here on, so that ``back`` can return to it. There is one mark at a time."""
        self._mark = self.at

    def unmark(self) -> None:
        """What was read since the mark is understood for good."""
        self._mark = None

    def since_mark(self) -> str:
        """What was read since the mark."""
        assert self._mark is not None
        return self.text[self._mark : self.at]

    def back(self) -> None:
        """Return to the mark, and drop it."""
        assert self._mark is not None
        self.at = self._mark
        self._mark = None

    # --- steps ---

    def peek(self) -> Steps[str]:
        """The next character; "" at the end."""
        while self.at >= len(self.text) and not self.has_ended:
            yield
        return self.text[self.at : self.at + 1]

    def space(self) -> Steps[str]:
        """Read white space."""
        found = ""
        while True:
            match = _SPACES.match(self.text, self.at)
            assert match is not None
            found += match.group()
            self.at = match.end()
            if self.at < len(self.text) or self.has_ended:
                return found
            yield

    def literal(self, options: Sequence[str]) -> Steps[str | None]:
        """Read one of the options, none of which starts with another; ``None`` if none of them comes."""
        while True:
            for option in options:
                if option and self.text.startswith(option, self.at):
                    self.at += len(option)
                    return option
            rest = self.text[self.at : self.at + 256]
            if self.has_ended or not any(option.startswith(rest) for option in options):
                return None
            yield
