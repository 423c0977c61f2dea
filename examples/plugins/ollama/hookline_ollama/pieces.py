"""From the text of a choice to pieces of an answer: content, thinking, and whole tool calls."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hookline.interfaces.api import OutputParser
from hookline.interfaces.parsers import FunctionCallDelta, ReasoningDelta


@dataclass(slots=True)
class Piece:
    """A part of an answer; parts are joined by ``add``."""

    content: str = ""
    thinking: str = ""
    #: Ollama's objects: {"function": {"index", "name", "arguments"}}.
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.thinking or self.calls)

    def add(self, other: Piece) -> None:
        """Append."""
        self.content += other.content
        self.thinking += other.thinking
        self.calls += other.calls


class PieceReader:
    """Reads the output of one choice. Ollama tells a tool call when it is whole, so parts of it wait here."""

    def __init__(self, parser: OutputParser) -> None:
        self._parser = parser
        #: The call that is being written: its index, name and the arguments so far.
        self._open: tuple[int, str, str] | None = None

    def feed(self, text: str, *, is_last: bool) -> Piece:
        """What the next piece of output holds; with ``is_last`` also what was held back."""
        piece = Piece()
        if text:
            self._take(*self._parser.feed(text), piece)
        if is_last:
            self._take(*self._parser.finish(), piece)
            self._close(piece)
        return piece

    def _take(self, reasoning: ReasoningDelta, found: FunctionCallDelta, piece: Piece) -> None:
        piece.thinking += reasoning.reasoning
        piece.content += found.content
        for call in found.calls:
            if call.name is not None:
                self._close(piece)
                self._open = (call.index, call.name, "")
            if self._open is not None:
                index, name, arguments = self._open
                self._open = (index, name, arguments + call.arguments)

    def _close(self, piece: Piece) -> None:
        if self._open is None:
            return
        index, name, raw = self._open
        self._open = None
        try:
            arguments = json.loads(raw or "{}")
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            piece.calls.append({"function": {"index": index, "name": name, "arguments": arguments}})
        else:
            # Cut off, or no object, which clients could not read: better seen than lost.
            piece.content += f"{name}({raw}"
