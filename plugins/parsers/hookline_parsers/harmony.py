"""The messages of gpt-oss: https://cookbook.openai.com/articles/openai-harmony.

The prompt ends in ``<|start|>assistant``. What follows is a row of messages,
``<|channel|>CHANNEL[ to=RECIPIENT][ <|constrain|>TYPE]<|message|>TEXT`` and then ``<|end|>``, ``<|return|>`` or
``<|call|>``, each but the first behind ``<|start|>assistant``. The recipient may stand behind the role too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hookline.formats.markers import Markers
from hookline.formats.tape import Steps, Tape

START, CHANNEL, CONSTRAIN, MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
#: What ends a message.
ENDS = ("<|end|>", "<|return|>", "<|call|>")
#: What may stand in the text of messages and around them.
MARKERS = Markers(START, CHANNEL, *ENDS)

_TYPES = ("json", "code", "text")
_TYPE = "|".join(_TYPES)
_ROLE = re.compile(r"assistant(?:\s+to=(?P<to>[\w.\-]+))?\s*")
_CHANNEL = re.compile(rf"(?P<channel>analysis|commentary|final)(?:\s+to=(?P<to>[\w.\-]+))?(?:\s+(?:{_TYPE}))?\s*")
_TO_SO_FAR = r"(?:\s+(?:t|to|to=[\w.\-]*))?"
_TYPE_SO_FAR = "|".join(sorted({word[:end] for word in _TYPES for end in range(1, len(word) + 1)}, key=len)[::-1])
_ROLE_SO_FAR = re.compile(rf"assistant{_TO_SO_FAR}\s*")
_CHANNEL_SO_FAR = re.compile(rf"(?:analysis|commentary|final){_TO_SO_FAR}(?:\s+(?:{_TYPE_SO_FAR}))?\s*")
_WORDS = ("assistant", "analysis", "commentary", "final", *_TYPES)
_MAX_PART = 256


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before ``<|message|>``."""

    channel: str
    #: To whom the message goes: ``functions.NAME`` for a function of the request, "" for nobody.
    recipient: str = ""


def read_header(tape: Tape) -> Steps[Header | None]:
    """Read a header to the end of ``<|message|>``; ``None`` at the first character that cannot be part of one."""
    recipient, channel = "", ""
    end = yield from tape.literal((START, CHANNEL))
    if end == START:
        role, end = yield from _part(tape, (CHANNEL, MESSAGE), _ROLE_SO_FAR)
        match = _ROLE.fullmatch(role)
        if match is None:
            return None
        recipient = match["to"] or ""
    if end == CHANNEL:
        text, end = yield from _part(tape, (MESSAGE, CONSTRAIN), _CHANNEL_SO_FAR)
        match = _CHANNEL.fullmatch(text)
        if match is None:
            return None
        channel, recipient = match["channel"], match["to"] or recipient
    if end == CONSTRAIN:
        text, end = yield from _part(tape, (MESSAGE,), re.compile(rf"\s*(?:{_TYPE_SO_FAR})?\s*"))
        if text.strip() not in _TYPES:
            return None
    return Header(channel or "final", recipient) if end == MESSAGE else None


def _part(tape: Tape, ends: Sequence[str], so_far: re.Pattern[str]) -> Steps[tuple[str, str]]:
    """Text up to one of the ends, read with it; ("", "") if there is none or the text does not fit."""
    markers = Markers(*ends)
    while True:
        before, end, _ = markers.split(tape.rest)
        fits = so_far.fullmatch(before) or any(word.startswith(before) for word in _WORDS)
        if not fits or len(before) > _MAX_PART or (end is None and tape.has_ended):
            return "", ""
        if end is not None:
            tape.at += len(before) + len(end)
            return before, end
        yield
