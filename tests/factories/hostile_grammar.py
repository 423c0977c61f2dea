"""A grammar backend for tests whose compilations run away, crash, or eat memory, as their source says."""

from __future__ import annotations

import ctypes
import os
import threading
import time

from hookline.errors import RequestError
from hookline.interfaces.grammar import CompiledGrammar, GrammarBackend, GrammarEnv, UnsupportedGrammarError
from hookline.testkit.plans import chosen
from tests.factories.fake_grammar import FakeGrammar

#: What tests put into a plan.
HOSTILE_GRAMMAR = chosen(
    "grammar_backends",
    "hostile",
    "tests.factories.hostile_grammar:HostileBackend",
    details={"kinds": ["regex"]},
)


class _Packed(FakeGrammar):
    def pack(self) -> bytes:
        return self.source.encode()


class HostileBackend(GrammarBackend):
    """Other sources are those of ``FakeGrammar``; "pid" gives one whose only token is the compiling process."""

    def compile(self, kind: str, source: str) -> CompiledGrammar:
        word, _, rest = source.partition(" ")
        if word == "spin":
            while True:
                pass
        if word == "sleep":
            time.sleep(1000)
        if word == "eat":
            hoard = [bytearray(1 << 20) for _ in range(1 << 14)]
            raise AssertionError(f"{len(hoard)} MiB were to be had")
        if word == "large":
            return _Packed("7 " * (1 << 24), self.env.end_token_ids)
        if word == "crash":
            ctypes.string_at(0)
        if word == "exit":
            os._exit(3)
        if word == "boom":
            raise AssertionError("the parser fell over")
        if word == "bad":
            raise RequestError(f"{kind} is bad: {rest}", param=kind, code="very_bad")
        if word == "unsupported":
            raise UnsupportedGrammarError(f"{kind} goes too far", param=kind)
        if word == "pid":
            return _Packed(str(os.getpid()), self.env.end_token_ids)
        return _Packed(source, self.env.end_token_ids)

    def unpack(self, kind: str, source: str, packed: bytes) -> CompiledGrammar:
        return FakeGrammar(packed.decode(), self.env.end_token_ids)


class ThreadedBackend(HostileBackend):
    """Keeps a thread running where it was made. "threads" gives one whose only token is how many threads the parent
    process of the fork has."""

    def __init__(self, env: GrammarEnv) -> None:
        super().__init__(env)
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    def compile(self, kind: str, source: str) -> CompiledGrammar:
        if source == "threads":
            return super().compile(kind, str(len(os.listdir(f"/proc/{os.getppid()}/task"))))
        return super().compile(kind, source)


class TimidBackend(HostileBackend):
    """Refuses everything that holds a "7"."""

    def compile(self, kind: str, source: str) -> CompiledGrammar:
        if "7" in source:
            raise UnsupportedGrammarError(f"{kind} holds a 7", param=kind)
        return super().compile(kind, source)


class BrokenBackend(HostileBackend):
    """Takes no tokenizer at all."""

    def __init__(self, env: object) -> None:
        raise ValueError("this tokenizer cannot be taken")
