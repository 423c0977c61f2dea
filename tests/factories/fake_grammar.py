"""A grammar backend for tests: a grammar lists which tokens may stand at each place."""

from __future__ import annotations

import threading
from itertools import takewhile

import numpy as np
import numpy.typing as npt

from hookline.errors import RequestError
from hookline.interfaces.grammar import CompiledGrammar, GrammarBackend, GrammarEnv, GrammarMatcher
from hookline.testkit.plans import chosen
from hookline.testkit.scheduling import letter

#: What tests put into ``Harness(plugins=...)``.
FAKE_GRAMMAR = chosen(
    "grammar_backends", "fake", "tests.factories.fake_grammar:FakeGrammarBackend", details={"kinds": ["regex"]}
)


class FakeMatcher(GrammarMatcher):
    def __init__(self, places: list[set[int]], end_token_ids: tuple[int, ...]) -> None:
        self._places = [*places, set(end_token_ids)]
        self.accepted: list[int] = []

    def accept_token(self, token_id: int) -> bool:
        if self.is_terminated or token_id not in self._places[len(self.accepted)]:
            return False
        self.accepted.append(token_id)
        return True

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        assert not self.is_terminated, "nothing may follow"
        words = np.zeros(bitmask_BW.shape[1], dtype=np.uint32)
        for token_id in self._places[len(self.accepted)]:
            words[token_id // 32] |= np.uint32(1 << (token_id % 32))
        bitmask_BW[row] = words.view(np.int32)

    def rollback(self, num_tokens: int) -> None:
        del self.accepted[len(self.accepted) - num_tokens :]

    def forced_text(self) -> bytes:
        forced = takewhile(lambda place: len(place) == 1, self._places[len(self.accepted) : -1])
        return "".join(letter(token_id) for place in forced for token_id in place).encode()

    @property
    def is_terminated(self) -> bool:
        return len(self.accepted) == len(self._places)


class _Breaking(FakeMatcher):
    """Fails on its second mask, or on its second token."""

    def __init__(self, what: str, end_token_ids: tuple[int, ...]) -> None:
        super().__init__([set(range(5, 9))] * 4, end_token_ids)
        self._what = what

    def accept_token(self, token_id: int) -> bool:
        if self._what == "refuses" and self.accepted:
            return False
        if self._what == "accept" and self.accepted:
            raise ValueError("accepting broke")
        return super().accept_token(token_id)

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        if self._what == "mask" and self.accepted:
            raise ValueError("masking broke")
        super().fill_bitmask(bitmask_BW, row)


class FakeGrammar(CompiledGrammar):
    def __init__(self, source: str, end_token_ids: tuple[int, ...]) -> None:
        self.source = source
        self._end_token_ids = end_token_ids

    def matcher(self) -> FakeMatcher:
        if self.source.startswith("breaks:"):
            return _Breaking(self.source.removeprefix("breaks:"), self._end_token_ids)
        places = [{int(token) for token in place.split("|")} for place in self.source.split()]
        return FakeMatcher(places, self._end_token_ids)

    @property
    def num_bytes(self) -> int:
        return 1000 * len(self.source)


class FakeGrammarBackend(GrammarBackend):
    """Source "3|4 5" allows 3 or 4, then 5, then an end token. "bad" is invalid, "boom" crashes, "slow" waits
    for ``gate``."""

    def __init__(self, env: GrammarEnv) -> None:
        super().__init__(env)
        self.gate = threading.Event()
        self.compiled: list[str] = []

    def compile(self, kind: str, source: str) -> CompiledGrammar:
        self.compiled.append(source)
        if source.startswith("slow"):
            self.gate.wait(30)
            return FakeGrammar("3", self.env.end_token_ids)
        if source == "bad":
            raise RequestError(f"{kind}: unexpected end of input", param=kind)
        if source == "boom":
            raise AssertionError("the parser fell over")
        return FakeGrammar(source, self.env.end_token_ids)
