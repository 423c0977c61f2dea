"""ForcedCalls: reads the JSON array of calls that a grammar made the model write."""

from __future__ import annotations

import json
from typing import Literal

from hookline.interfaces.api import OutputParser
from hookline.interfaces.parsers import FunctionCallDelta, ReasoningDelta, ToolCallDelta
from hookline.text.json_stream import JsonObjectScanner, MemberPiece

_SPACE = " \t\n\r"


class ForcedCalls:
    """An ``OutputParser`` of ``[{"name": ..., "parameters": {...}}, ...]``, behind reasoning.

    The grammar vouches for the shape, so arguments are passed on while they are written. Where the output
    is something else after all (cut off at the start, a logits processor that went its own way) it is content.
    """

    def __init__(self, reasoning: OutputParser) -> None:
        """``reasoning`` parses what comes before; it looks for no calls."""
        self._reasoning = reasoning
        self._place: Literal["start", "between", "call", "end", "content"] = "start"
        self._num_calls = 0
        self._scanner = JsonObjectScanner()
        self._name_raw = ""
        #: Arguments that came before the name.
        self._early = ""
        self._is_named = False
        self._has_arguments = False

    def feed(self, text: str) -> tuple[ReasoningDelta, FunctionCallDelta]:
        """Read the next piece of output."""
        reasoning, rest = self._reasoning.feed(text)
        return reasoning, self._read(rest.content)

    def finish(self) -> tuple[ReasoningDelta, FunctionCallDelta]:
        """The output has ended."""
        reasoning, rest = self._reasoning.finish()
        found = self._read(rest.content)
        is_broken = found.incomplete or (self._place == "call" and self._is_named)
        return reasoning, FunctionCallDelta(found.content, found.calls, is_broken)

    def _read(self, text: str) -> FunctionCallDelta:
        calls: list[ToolCallDelta] = []
        content = ""
        incomplete = False
        position = 0
        while position < len(text):
            if self._place == "content":
                content, position = content + text[position:], len(text)
            elif self._place == "call":
                position, pieces = self._scanner.feed(text, position)
                for piece in pieces:
                    calls += self._take(piece)
                if self._scanner.status == "bad":
                    incomplete, self._place = self._is_named, "content"
                elif self._scanner.status == "done":
                    calls += self._ended()
            else:
                position = self._step(text, position)
        return FunctionCallDelta(content, calls, incomplete)

    def _step(self, text: str, position: int) -> int:
        """One character between calls."""
        char = text[position]
        if char in _SPACE:
            return position + 1
        if char == "[" and self._place == "start":
            self._place = "between"
        elif char == "]" and self._place == "between":
            self._place = "end"
        elif char == "{" and self._place == "between":
            self._place = "call"
            self._scanner = JsonObjectScanner()
            self._name_raw = self._early = ""
            self._is_named = self._has_arguments = False
            return position
        elif char != "," or self._place != "between":
            self._place = "content"
            return position
        return position + 1

    def _take(self, piece: MemberPiece) -> list[ToolCallDelta]:
        index = self._num_calls
        if piece.key == "name" and not self._is_named:
            self._name_raw += piece.raw
            if not piece.is_last:
                return []
            self._is_named = True
            early, self._early = self._early, ""
            return [ToolCallDelta(index, json.loads(self._name_raw), early)]
        if piece.key != "parameters":
            return []
        self._has_arguments = True
        if self._is_named:
            return [ToolCallDelta(index, None, piece.raw)]
        self._early += piece.raw
        return []

    def _ended(self) -> list[ToolCallDelta]:
        self._place = "between"
        if not self._is_named:
            return []
        self._num_calls += 1
        return [] if self._has_arguments else [ToolCallDelta(self._num_calls - 1, None, "{}")]
