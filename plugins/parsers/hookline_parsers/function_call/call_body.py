"""CallBody: one tool call as a JSON object that arrives in pieces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from hookline.text.json_stream import JsonObjectScanner, MemberPiece

_SPACE = " \t\n\r"


class CallBody:
    """Reads ``{"name": "f", "arguments": {...}}``, members in any order.

    A call is told when its name and the whole of its arguments are there, or, so that long arguments arrive
    while they are written, once the body is ``max_held`` characters long and its arguments have begun. Until
    then it can still turn out to be no call. Both depend on the characters read alone, not on how they were cut.

    Arguments are the raw text of an object; ``null`` and no arguments at all are ``{}``, and a string that
    holds an object (at most ``max_held`` characters) is that object. Of a member that comes twice the first
    counts; unknown members are skipped.
    """

    def __init__(self, *, arguments_keys: Sequence[str], max_held: int) -> None:
        #: "open": undecided; "told": a call, of which more may come; "closed": a call, and its object has
        #: ended; "failed": no call, or the arguments of a told call are broken.
        self.status: Literal["open", "told", "closed", "failed"] = "open"
        #: Whether it is a call, if perhaps a broken one.
        self.is_told = False
        #: All text read while the status was "open".
        self.raw = ""
        self.name: str | None = None
        #: Whether ``arguments`` given so far, joined, are one JSON document.
        self.is_complete = False
        self._arguments_keys = frozenset(arguments_keys)
        self._max_held = max_held
        self._scanner = JsonObjectScanner()
        self._name_raw: list[str] = []
        self._arguments_key: str | None = None
        self._arguments: list[str] = []
        self._has_whole_arguments = False
        self._is_encoded = False

    def feed(self, text: str, start: int) -> tuple[int, str]:
        """Read on from ``text[start]``; returns how far it got, and new text of the arguments if told.

        Reading stops at the first character behind the object, or at one that breaks it.
        """
        told: list[str] = []
        while start < len(text) and self.status in ("open", "told"):
            # Up to the length where it is decided, and not further: a longer piece must not decide otherwise.
            limit = self._max_held - len(self.raw) if self.status == "open" else len(text)
            piece = text[start : start + limit]
            read, members = self._scanner.feed(piece)
            if self.status == "open":
                self.raw += piece[:read]
            start += read
            for member in members:
                self._take(member)
            self._decide()
            if self.status in ("told", "closed"):
                self.is_told = True
            if self.is_told:
                told += self._arguments
                self._arguments.clear()
        return start, "".join(told)

    def _take(self, piece: MemberPiece) -> None:
        if piece.key == "name" and self.name is None:
            self._name_raw.append(piece.raw)
            if piece.is_last:
                self._take_name()
        elif piece.key == self._arguments_key or (self._arguments_key is None and piece.key in self._arguments_keys):
            self._take_arguments(piece)

    def _take_name(self) -> None:
        name = json.loads("".join(self._name_raw))
        if isinstance(name, str) and name.strip() and _has_utf8(name):
            self.name = name
        else:
            self.status = "failed"

    def _take_arguments(self, piece: MemberPiece) -> None:
        if self._arguments_key is None:
            self._arguments_key = piece.key
            self._is_encoded = piece.raw[0] != "{"
            if piece.raw[0] not in '{"n':
                self.status = "failed"
        if self.status == "failed" or self._has_whole_arguments:
            return
        self._arguments.append(piece.raw)
        if piece.is_last:
            self._has_whole_arguments = True
            if self._is_encoded:
                self._decode()

    def _decode(self) -> None:
        """Arguments written as ``null`` or as a string that holds an object."""
        value = json.loads("".join(self._arguments))
        text = "{}" if value is None else value.strip(_SPACE)
        # As a member of an object, so that the scanner gives it back with control characters escaped.
        wrapped = f'{{"value":{text}}}'
        scanner = JsonObjectScanner()
        read, members = scanner.feed(wrapped)
        is_object = scanner.status == "done" and read == len(wrapped) and len(members) == 1 and text[:1] == "{"
        if is_object and _has_utf8(text):
            self._arguments = [members[0].raw]
        else:
            self.status = "failed"

    def _decide(self) -> None:
        if self.status == "failed":
            return
        ended = self._scanner.status
        if ended == "done" and self._arguments_key is None:
            self._arguments = ["{}"]
            self._has_whole_arguments = True
        self.is_complete = self._has_whole_arguments
        has_call = self.name is not None and self._has_whole_arguments
        if self.status == "open" and not has_call:
            if ended != "open":
                self.status = "failed"
            elif len(self.raw) >= self._max_held:
                may_stream = self.name is not None and self._arguments_key is not None and not self._is_encoded
                self.status = "told" if may_stream else "failed"
        elif ended == "open":
            self.status = "told"
        else:
            self.status = "closed" if has_call else "failed"


def _has_utf8(text: str) -> bool:
    """Whether a text can be sent: an escape like ``\\ud800``, half of a character, stands for none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
