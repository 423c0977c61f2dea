"""The bytes that each token of a vocabulary stands for, read off the tokenizer's decoder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import Tokenizer as Backend

#: Spells the bytes of one token inside a text.
Spelling = Callable[[str], bytes]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def decoder_steps(backend: Backend) -> list[dict[str, Any]]:
    """The steps of a tokenizer's decoder as plain data, nested sequences flattened."""
    if backend.decoder is None:
        return []
    pending = [json.loads(backend.decoder.__getstate__())]
    steps: list[dict[str, Any]] = []
    while pending:
        step = pending.pop(0)
        if step["type"] == "Sequence":
            pending = [*step["decoders"], *pending]
        else:
            steps.append(step)
    return steps


def spelling(steps: list[dict[str, Any]]) -> Spelling:
    """How the decoder spells a token that stands inside a text."""
    if any(step["type"] == "ByteLevel" for step in steps):
        return _byte_level
    parts = [part for part in map(_part, steps) if part is not None]

    def spell(token: str) -> bytes:
        for part in parts:
            spelled = part(token)
            if isinstance(spelled, bytes):
                return spelled
            token = spelled
        return token.encode()

    return spell


def _part(step: Mapping[str, Any]) -> Callable[[str], str | bytes] | None:
    """What one step does to a token inside a text; ``None`` if it only concerns the ends of a text."""
    kind = step["type"]
    if kind == "ByteFallback":
        return _byte_fallback
    if kind == "Metaspace":
        mark = step["replacement"]
        return lambda token: token.replace(mark, " ")
    if kind == "Replace":
        return _replacement(step)
    if kind == "WordPiece":
        prefix = step["prefix"]
        return lambda token: token.removeprefix(prefix) if token.startswith(prefix) else " " + token
    if kind == "BPEDecoder":
        suffix = step["suffix"]
        return lambda token: token.replace(suffix, " ")
    return None


def _replacement(step: Mapping[str, Any]) -> Callable[[str], str]:
    pattern, content = step["pattern"], step["content"]
    if "String" in pattern:
        text = pattern["String"]
        return lambda token: token.replace(text, content)
    compiled = re.compile(pattern["Regex"])
    return lambda token: compiled.sub(lambda match: content, token)


def _byte_fallback(token: str) -> str | bytes:
    match = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token


def _byte_level(token: str) -> bytes:
    # One foreign character makes the decoder take the whole token literally.
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode()


def _byte_alphabet() -> dict[str, int]:
    """Character -> byte of byte-level BPE: printable Latin-1 stands for itself, the rest from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    hidden = [byte for byte in range(256) if chr(byte) not in alphabet]
    alphabet.update({chr(0x100 + index): byte for index, byte in enumerate(hidden)})
    return alphabet


_BYTE_OF = _byte_alphabet()
