"""Function calls in double brackets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hookline.interfaces.parsers import FunctionCallDelta, FunctionCallParser, ToolCallDelta, UnknownFunctions
from hookline.text.json_stream import JsonObjectScanner

OPEN, CLOSE = "[[call ", "]]"
#: What stands between the opening and the arguments, and what may still become it.
_HEAD = re.compile(r" *([\w.-]+) +")
_HEAD_SO_FAR = re.compile(r" *[\w.-]* *")
_MAX_HEAD = 128


class BracketCallParser(FunctionCallParser):
    """Finds ``[[call name {...}]]`` in text, any number of times.

    A call is told at the opening brace of its arguments, which then follow as they come. Before that brace it can
    still turn out to be text; behind it, arguments that are no JSON make the call incomplete, and the rest text. The
    closing brackets may be missing. White space between a call and its brackets is dropped, all other is kept.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]], *, unknown_functions: UnknownFunctions = "call") -> None:
        super().__init__(tools, unknown_functions=unknown_functions)
        self._names = {tool["function"]["name"] for tool in tools}
        self._place: Literal["text", "head", "arguments", "behind"] = "text"
        #: Text that was read and not understood yet.
        self._held = ""
        self._scanner = JsonObjectScanner()
        self._num_calls = 0
        self._content: list[str] = []
        self._calls: list[ToolCallDelta] = []
        self._is_incomplete = False

    def feed(self, text: str) -> FunctionCallDelta:
        self._held += text
        steps = {
            "text": self._read_text,
            "head": self._read_head,
            "arguments": self._read_arguments,
            "behind": self._read_behind,
        }
        while self._held and steps[self._place]():
            pass
        return self._take()

    def finish(self) -> FunctionCallDelta:
        if self._place == "head":
            self._content.append(OPEN)
        if self._place in ("text", "head"):
            self._content.append(self._held)
        self._is_incomplete |= self._place == "arguments"
        return self._take()

    # Each step reads on in ``_held`` and answers whether it got anywhere without more text.

    def _read_text(self) -> bool:
        before, tag, rest = self._held.partition(OPEN)
        if tag:
            self._content.append(before)
            self._held = rest
            self._place = "head"
            return True
        num_held = next((n for n in range(len(OPEN) - 1, 0, -1) if before.endswith(OPEN[:n])), 0)
        self._content.append(before[: len(before) - num_held])
        self._held = before[len(before) - num_held :]
        return False

    def _read_head(self) -> bool:
        head, brace, _ = self._held.partition("{")
        name = _HEAD.fullmatch(head) if len(head) <= _MAX_HEAD else None
        if not brace and len(head) <= _MAX_HEAD and _HEAD_SO_FAR.fullmatch(head):
            return False
        if not brace or name is None or (self.unknown_functions == "content" and name[1] not in self._names):
            self._content.append(OPEN)
            self._place = "text"
            return True
        self._calls.append(ToolCallDelta(self._num_calls, name=name[1]))
        self._num_calls += 1
        self._held = self._held[len(head) :]
        # To the scanner the arguments are the member of an object, which it tells piece by piece.
        self._scanner = JsonObjectScanner()
        self._scanner.feed('{"arguments":')
        self._place = "arguments"
        return True

    def _read_arguments(self) -> bool:
        arguments = ""
        for at, character in enumerate(self._held):
            _, pieces = self._scanner.feed(character)
            arguments += "".join(piece.raw for piece in pieces)
            has_ended = any(piece.is_last for piece in pieces)
            if has_ended or self._scanner.status == "bad":
                self._held = self._held[at + has_ended :]
                self._is_incomplete |= not has_ended
                self._place = "behind" if has_ended else "text"
                break
        else:
            self._held = ""
        self._calls.append(ToolCallDelta(self._num_calls - 1, arguments=arguments))
        return True

    def _read_behind(self) -> bool:
        self._held = self._held.lstrip()
        if self._held.startswith(CLOSE):
            self._held = self._held.removeprefix(CLOSE)
        elif CLOSE.startswith(self._held):
            return False
        self._place = "text"
        return True

    def _take(self) -> FunctionCallDelta:
        delta = FunctionCallDelta("".join(self._content), tuple(self._calls), self._is_incomplete)
        self._content.clear()
        self._calls.clear()
        self._is_incomplete = False
        return delta
