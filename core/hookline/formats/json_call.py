"""JsonCallBody: one call as a JSON object that arrives in pieces."""

from __future__ import annotations

import json

from hookline.formats.description import JsonCall
from hookline.formats.tape import SPACE
from hookline.text.json_stream import JsonObjectScanner, JsonValueScanner, MemberPiece

#: Characters of a body that may be read before it is known to be a call.
MAX_HELD = 16384


class JsonCallBody:
    """Reads ``{"name": "f", "arguments": {...}}``, members in any order.

    It is a call as soon as its name and the opening brace of its arguments are there. Arguments that stand
    before the name, or are encoded in a string, wait for it; a body that is longer than ``MAX_HELD`` by then is
    no call. Of a member that comes twice the first counts; unknown members are skipped.
    """

    def __init__(self, call: JsonCall) -> None:
        #: The function's name once it is known.
        self.name: str | None = None
        #: Whether it is a call, if perhaps a broken one.
        self.is_call = False
        #: Whether it can no longer be a call.
        self.has_failed = False
        #: Whether the arguments given so far, joined, are one JSON document.
        self.is_complete = False
        #: Whether the object has ended, well or not.
        self.has_ended = False
        self._call = call
        self._num_read = 0
        self._scanner = JsonObjectScanner()
        self._name_raw: list[str] = []
        self._key: str | None = None
        self._is_encoded = False
        self._arguments: list[str] = []

    def feed(self, text: str, start: int) -> int:
        """Read on from ``text[start]``; returns how far it got. Stops behind the object or where it breaks."""
        while start < len(text) and not self.has_ended and not self.has_failed:
            # Up to the length where it is decided, and not further: a longer piece must not decide otherwise.
            limit = len(text) if self.is_call else start + MAX_HELD - self._num_read
            read, members = self._scanner.feed(text[start:limit])
            start += read
            self._num_read += read
            for member in members:
                self._take(member)
            self._decide()
        return start

    def take_arguments(self) -> str:
        """New text of the arguments; only for a call."""
        text = "".join(self._arguments)
        self._arguments.clear()
        return text

    def _take(self, piece: MemberPiece) -> None:
        if self.has_failed:
            return
        if piece.key == self._call.name_key and self.name is None:
            self._name_raw.append(piece.raw)
            if piece.is_last:
                self._take_name()
        elif piece.key == self._key or (self._key is None and piece.key in self._call.arguments_keys):
            self._take_arguments(piece)
        self._tell()

    def _take_name(self) -> None:
        name = json.loads("".join(self._name_raw))
        if isinstance(name, str) and name.strip() and has_utf8(name):
            self.name = name
        else:
            self.has_failed = True

    def _take_arguments(self, piece: MemberPiece) -> None:
        if self._key is None:
            self._key = piece.key
            self._is_encoded = piece.raw[0] != "{"
            if piece.raw[0] not in '{"n':
                self.has_failed = True
                return
        if self.is_complete:
            return
        self._arguments.append(piece.raw)
        if piece.is_last and self._is_encoded:
            self._decode()
        self.is_complete = piece.is_last and not self.has_failed

    def _decode(self) -> None:
        """Arguments written as ``null`` or as a string that holds an object."""
        value = json.loads("".join(self._arguments))
        text = "{}" if value is None else value.strip(SPACE)
        scanner = JsonValueScanner()
        read, pieces = scanner.feed(text)
        if text[:1] == "{" and scanner.status == "done" and read == len(text) and has_utf8(text):
            self._arguments = [piece.raw for piece in pieces]
            self._is_encoded = False
        else:
            self.has_failed = True

    def _tell(self) -> None:
        has_begun = self._key is not None and not self._is_encoded
        self.is_call |= self.name is not None and has_begun and not self.has_failed

    def _decide(self) -> None:
        status = self._scanner.status
        if status == "done" and self._key is None and self.name is not None and not self.has_failed:
            self._key = ""
            self._arguments = ["{}"]
            self.is_complete = True
            self._tell()
        self.has_ended = status != "open"
        if not self.is_call and (self.has_ended or self._num_read >= MAX_HELD):
            self.has_failed = True


def has_utf8(text: str) -> bool:
    """Whether a text can be sent: an escape like ``\\ud800``, half of a character, stands for none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
