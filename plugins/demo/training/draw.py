"""Seeded draws that know their side of the train / held-out split.

Whatever an item is made of (a scene, an operand pair, a record, a phrasing) is assigned to one
side by a hash of its content, so the same content is on the same side in every run and nothing
crosses the split.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import itertools
import random
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

HELD_OUT_PERCENT = 12
MAX_ATTEMPTS = 3000

OPENERS = (
    "Please answer: ",
    "Quick question: ",
    "I have a question. ",
    "Hi! ",
    "Hello. ",
    "Hey, ",
    "Can you help me? ",
    "Tell me: ",
    "OK. ",
    "Now this: ",
    "Next: ",
)
CLOSERS = (" Thanks.", " Thank you!", " Please.", " Be brief.", " Answer in one sentence.")


class NoPhrasingError(LookupError):
    """A grammar has no phrasing on the side that was asked for."""


class Split(enum.Enum):
    TRAIN = "train"
    HELD_OUT = "held_out"


@functools.lru_cache(maxsize=1 << 18)
def split_of(kind: str, content: str) -> Split:
    """The side of the split that this content belongs to, whoever asks and whenever."""
    digest = hashlib.blake2b(f"{kind}\x1f{content}".encode(), digest_size=8).digest()
    held_out = int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT
    return Split.HELD_OUT if held_out else Split.TRAIN


@functools.lru_cache(maxsize=1 << 18)
def phrase_key(skeleton: str) -> str:
    """What identifies a phrasing: case and punctuation do not make a new one."""
    return " ".join(re.sub(r"[^a-z0-9<>_ ]", "", skeleton.lower()).split())


@functools.lru_cache(maxsize=4096)
def _parts(core: str) -> tuple[tuple[str, ...], ...]:
    pieces = re.split(r"(\{[^{}]*\})", core)
    return tuple(tuple(piece[1:-1].split("|")) if piece.startswith("{") else (piece,) for piece in pieces)


def expansions(grammar: Sequence[str]) -> list[str]:
    """Every skeleton that a grammar can produce, without openers and closers."""
    return ["".join(choice) for core in grammar for choice in itertools.product(*_parts(core))]


@functools.lru_cache(maxsize=1024)
def held_out_keys(name: str, grammar: tuple[str, ...]) -> frozenset[str]:
    """The held-out phrasings of a grammar without openers: the lowest hashes, at least one."""
    keys = sorted({phrase_key(skeleton) for skeleton in expansions(grammar)}, key=_digest(name))
    assert len(keys) > 1, f"{name} has one phrasing only"
    return frozenset(keys[: max(1, len(keys) * HELD_OUT_PERCENT // 100)])


def _digest(name: str) -> Callable[[str], bytes]:
    return lambda key: hashlib.blake2b(f"{name}\x1f{key}".encode(), digest_size=8).digest()


class Draw:
    """A seeded source of content and phrasings on one side of the split."""

    def __init__(self, seed: str, split: Split) -> None:
        self.rng = random.Random(seed)
        self.split = split
        self.phrasings: list[tuple[str, str]] = []  #: (grammar name, key) of what was drawn
        self.contents: list[tuple[str, str]] = []  #: (kind, content) of what was drawn

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def until(self, kind: str, make: Callable[[], T], key: Callable[[T], object] = repr) -> T:
        """Make values until one is on this side of the split."""
        for _ in range(MAX_ATTEMPTS):
            value = make()
            content = str(key(value))
            if split_of(kind, content) is self.split:
                self.contents.append((kind, content))
                return value
        raise AssertionError(f"no {kind} on the {self.split.value} side after {MAX_ATTEMPTS} tries")

    def phrase(
        self,
        name: str,
        grammar: Sequence[str],
        /,
        *,
        wrap: bool = True,
        bare: bool = True,
        openers: Sequence[str] = OPENERS,
        always_trained: frozenset[str] = frozenset(),
        **slots: object,
    ) -> str:
        """A phrasing of the grammar, its slots filled, in a random everyday style.

        A grammar is a list of cores; `{a|b}` in a core is a choice and `<x>` a slot. With `wrap`
        an opener or a closer may surround the core, and is part of what makes the phrasing;
        without `bare` one of them must. The keys `always_trained` are never held out.
        """
        held_out = None if wrap else held_out_keys(name, tuple(grammar))
        for _ in range(MAX_ATTEMPTS):
            core = self.rng.choice(grammar)
            core = "".join(self.rng.choice(choices) for choices in _parts(core))
            skeleton = self._wrapped(core, openers) if wrap else core
            if skeleton == core and not bare:
                continue
            key = phrase_key(skeleton)
            if held_out is None:
                side = split_of(f"phrase:{name}", key)
            else:
                side = Split.HELD_OUT if key in held_out - always_trained else Split.TRAIN
            if side is self.split:
                self.phrasings.append((name, key))
                break
        else:
            raise NoPhrasingError(f"no phrasing of {name} on the {self.split.value} side")
        if wrap:
            skeleton = self._casual(skeleton)
        for slot, value in slots.items():
            skeleton = skeleton.replace(f"<{slot}>", str(value))
        return skeleton

    def _wrapped(self, core: str, openers: Sequence[str]) -> str:
        if openers and self.chance(0.22):
            core = self.rng.choice(openers) + core
        return core + self.rng.choice(CLOSERS) if self.chance(0.14) else core

    def _casual(self, text: str) -> str:
        if self.chance(0.15) and not text.startswith(("<", "I ")):
            text = text[0].lower() + text[1:]
        if self.chance(0.15) and text[-1] in ".?!" and not text.endswith(">."):
            text = text[:-1]
        return text
