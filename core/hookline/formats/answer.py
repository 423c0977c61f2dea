"""CallAnswer: what a reader of tool calls has to tell, and the white space around calls."""

from __future__ import annotations

from hookline.formats.tape import SPACE
from hookline.interfaces.parsers import FunctionCallDelta, ToolCallDelta


class CallAnswer:
    """Collects content and calls between two takes.

    White space around calls is dropped, except that what stood before a call comes back if content follows.
    """

    def __init__(self) -> None:
        self._num_calls = 0
        #: White space that is content only if more content follows.
        self._space = ""
        self._has_content = False
        #: Whether nothing but white space came since the last call.
        self._is_after_call = False
        self._content: list[str] = []
        self._names: list[str | None] = []
        self._arguments: list[list[str]] = []
        self._incomplete = False

    def content(self, text: str) -> None:
        """Plain text."""
        if self._is_after_call:
            text = text.lstrip(SPACE)
        if not text:
            return
        self._is_after_call = False
        body = text.rstrip(SPACE)
        if body:
            self._content.append(self._space + body)
            self._space = ""
            self._has_content = True
        self._space += text[len(body) :]

    def call(self, name: str) -> None:
        """A call begins."""
        self._num_calls += 1
        self._names.append(name)
        self._arguments.append([])
        self._is_after_call = True
        if not self._has_content:
            self._space = ""

    def arguments(self, text: str) -> None:
        """More of the arguments of the call that began last."""
        if not text:
            return
        if not self._names:
            self._names.append(None)
            self._arguments.append([])
        self._arguments[-1].append(text)

    def incomplete(self) -> None:
        """The call that began last breaks off."""
        self._incomplete = True

    def end(self) -> None:
        """The output has ended."""
        if not self._is_after_call:
            self._content.append(self._space)
        self._space = ""

    def take(self) -> FunctionCallDelta:
        """What came since the last take; the pieces of each call in one."""
        first = self._num_calls - len(self._names)
        calls = tuple(
            ToolCallDelta(first + at, name, "".join(pieces))
            for at, (name, pieces) in enumerate(zip(self._names, self._arguments, strict=True))
        )
        delta = FunctionCallDelta("".join(self._content), calls, self._incomplete)
        self._content.clear()
        self._names.clear()
        self._arguments.clear()
        self._incomplete = False
        return delta
