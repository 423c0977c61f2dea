"""Broken grammar backends. Each class of tests names the test that must fail."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import regex  # type: ignore[import-untyped]

from hookline.errors import RequestError
from hookline.interfaces.grammar import (
    CompiledGrammar,
    GrammarBackend,
    GrammarBackendSpec,
    GrammarEnv,
    GrammarMatcher,
)
from hookline.testkit.grammar import GrammarBackendSuite


def spec(target: str) -> GrammarBackendSpec:
    return GrammarBackendSpec(
        name="broken",
        target=f"{__name__}:{target}",
        kinds=frozenset({"regex"}),
        features=frozenset({"rollback", "tag_formats"}),
        summary="broken on purpose",
    )


class Matcher(GrammarMatcher):
    """Right but for what the subclasses break: tries every token."""

    def __init__(self, backend: Backend, pattern: regex.Pattern[bytes]) -> None:
        self.backend = backend
        self.pattern = pattern
        self.ids: list[int] = []
        self.has_ended = False

    @property
    def text(self) -> bytes:
        return b"".join(self.backend.spellings[index] for index in self.ids)

    def fits(self, token_id: int) -> bool:
        if token_id in self.backend.env.end_token_ids:
            return self.pattern.fullmatch(self.text) is not None
        spelled = self.backend.spellings[token_id] if 0 <= token_id < len(self.backend.spellings) else b""
        return bool(spelled) and self.pattern.fullmatch(self.text + spelled, partial=True) is not None

    def accept_token(self, token_id: int) -> bool:
        if self.has_ended or not self.fits(token_id):
            return False
        self.has_ended = token_id in self.backend.env.end_token_ids
        self.ids.append(token_id)
        return True

    def bits(self) -> npt.NDArray[np.uint8]:
        size = self.backend.env.vocab_size
        bits = np.zeros(-(-size // 32) * 32, dtype=np.uint8)
        bits[[index for index in range(size) if self.fits(index)]] = 1
        return bits

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        bitmask_BW[row] = np.packbits(self.bits(), bitorder="little").view(np.int32)

    def rollback(self, num_tokens: int) -> None:
        del self.ids[len(self.ids) - num_tokens :]
        self.has_ended = self.has_ended and num_tokens == 0

    @property
    def is_terminated(self) -> bool:
        return self.has_ended


class Grammar(CompiledGrammar):
    def __init__(self, backend: Backend, source: str) -> None:
        self.backend = backend
        self.pattern = regex.compile(source.encode())

    def matcher(self) -> GrammarMatcher:
        return self.backend.matcher_type(self.backend, self.pattern)


class Backend(GrammarBackend):
    matcher_type: type[Matcher] = Matcher

    def __init__(self, env: GrammarEnv) -> None:
        super().__init__(env)
        self.spellings = [self.spelling(index) for index in range(env.tokenizer.vocab_size)]

    def spelling(self, token_id: int) -> bytes:
        tokenizer = self.env.tokenizer
        return b"" if token_id in tokenizer.special_ids else tokenizer.token_bytes(token_id)

    def compile(self, kind: str, source: str) -> CompiledGrammar:
        if kind != "regex":
            raise RequestError(f"only regex is compiled here, not {kind}", param=kind)
        try:
            return Grammar(self, source)
        except regex.error as exc:
            raise RequestError(f"regex does not compile: {exc}", param=kind) from exc


class LooseMatcher(Matcher):
    """Its mask knows the next byte only; longer tokens are found out when they are accepted."""

    def bits(self) -> npt.NDArray[np.uint8]:
        bits = super().bits()
        for index, spelled in enumerate(self.backend.spellings):
            if spelled and self.pattern.fullmatch(self.text + spelled[:1], partial=True):
                bits[index] = 1
        return bits


class Loose(Backend):
    matcher_type = LooseMatcher


class TestLoose(GrammarBackendSuite):
    spec = spec("Loose")
    caught_by = "test_masks_of_a_regex_are_exact"


class StrictMatcher(Matcher):
    """Forbids halves of characters."""

    def fits(self, token_id: int) -> bool:
        try:
            self.backend.spellings[token_id].decode()
        except (UnicodeDecodeError, IndexError):
            return False
        return super().fits(token_id)


class Strict(Backend):
    matcher_type = StrictMatcher


class TestStrict(GrammarBackendSuite):
    spec = spec("Strict")
    caught_by = "test_texts_of_the_language_are_accepted"


class EarlyMatcher(Matcher):
    """May end as soon as a beginning of the output matches."""

    def fits(self, token_id: int) -> bool:
        if token_id in self.backend.env.end_token_ids:
            return self.pattern.match(self.text) is not None
        return super().fits(token_id)


class Early(Backend):
    matcher_type = EarlyMatcher


class TestEarly(GrammarBackendSuite):
    spec = spec("Early")
    caught_by = "test_other_texts_are_refused"


class WideMatcher(Matcher):
    """Sets the bits that fill up the last word."""

    def bits(self) -> npt.NDArray[np.uint8]:
        bits = super().bits()
        bits[self.backend.env.vocab_size :] = 1
        return bits


class Wide(Backend):
    matcher_type = WideMatcher


class TestWide(GrammarBackendSuite):
    spec = spec("Wide")
    caught_by = "test_no_special_token_and_no_bit_beyond_the_vocabulary"


class Literal(Backend):
    """Takes special tokens for their names."""

    def spelling(self, token_id: int) -> bytes:
        return self.env.tokenizer.token_bytes(token_id) or self.env.tokenizer.decode([token_id]).encode()


class TestLiteral(GrammarBackendSuite):
    spec = spec("Literal")
    caught_by = "test_masks_of_a_regex_are_exact"


class SlidingMatcher(Matcher):
    """Appends first and looks then."""

    def accept_token(self, token_id: int) -> bool:
        if not 0 <= token_id < len(self.backend.spellings):
            return False
        fits = super().accept_token(token_id)
        if not fits and self.backend.spellings[token_id].startswith(b" "):
            self.ids.append(token_id)
        return fits


class Sliding(Backend):
    matcher_type = SlidingMatcher


class TestSliding(GrammarBackendSuite):
    spec = spec("Sliding")
    caught_by = "test_a_refused_token_changes_nothing"


class EndlessMatcher(Matcher):
    """Takes back tokens, but not the end."""

    def rollback(self, num_tokens: int) -> None:
        del self.ids[len(self.ids) - num_tokens :]


class Endless(Backend):
    matcher_type = EndlessMatcher


class TestEndless(GrammarBackendSuite):
    spec = spec("Endless")
    caught_by = "test_tokens_can_be_taken_back"


class UnfinishedMatcher(Matcher):
    """Goes on behind the end token."""

    def accept_token(self, token_id: int) -> bool:
        if self.has_ended and token_id in self.backend.env.end_token_ids:
            return True
        return super().accept_token(token_id)


class Unfinished(Backend):
    matcher_type = UnfinishedMatcher


class TestUnfinished(GrammarBackendSuite):
    spec = spec("Unfinished")
    caught_by = "test_nothing_follows_an_end_token"


class SharedGrammar(Grammar):
    """Hands out one matcher to all requests."""

    def __init__(self, backend: Backend, source: str) -> None:
        super().__init__(backend, source)
        self.only = super().matcher()

    def matcher(self) -> GrammarMatcher:
        self.only.rollback(0)
        return self.only


class Shared(Backend):
    def compile(self, kind: str, source: str) -> CompiledGrammar:
        super().compile(kind, source)
        return SharedGrammar(self, source)


class TestShared(GrammarBackendSuite):
    spec = spec("Shared")
    caught_by = "test_matchers_of_one_grammar_are_independent"


class FirstRowMatcher(Matcher):
    """Knows one request only."""

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        super().fill_bitmask(bitmask_BW, 0)


class FirstRow(Backend):
    matcher_type = FirstRowMatcher


class TestFirstRow(GrammarBackendSuite):
    spec = spec("FirstRow")
    caught_by = "test_no_special_token_and_no_bit_beyond_the_vocabulary"


class Raw(Backend):
    """Lets the library's error through, which would end the engine's compiling thread or be a 500."""

    def compile(self, kind: str, source: str) -> CompiledGrammar:
        return Grammar(self, source)


class TestRaw(GrammarBackendSuite):
    spec = spec("Raw")
    caught_by = "test_what_does_not_compile_is_the_requests_error"


class Plain(Backend):
    """Takes the fixed parts of a structural tag for all of it."""

    def compile(self, kind: str, source: str) -> CompiledGrammar:
        return super().compile("regex", "<f>.*" if kind == "structural_tag" else source)


class TestPlain(GrammarBackendSuite):
    spec = spec("Plain")
    caught_by = "test_structural_tags_of_all_formats_hold"
