"""GrammarBackendSuite: masks allow exactly the tokens that can go on, in every state and for every vocabulary."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, ClassVar

import pytest
import regex  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from hookline.errors import RequestError
from hookline.interfaces.grammar import (
    CompiledGrammar,
    GrammarBackend,
    GrammarBackendSpec,
    GrammarEnv,
    GrammarMatcher,
)
from hookline.testkit.grammar_cases import BAD_SOURCES, CASES, KINDS, TAG_FORMATS, GrammarCase
from hookline.testkit.grammar_walks import Speller, allowed, environment, random_output, spell
from hookline.testkit.offer_suite import OfferSuite
from hookline.testkit.properties import examples
from hookline.testkit.vocabularies import byte_level, pieces_with_fallback
from hookline.text.tokenizer import Tokenizer

VOCABULARIES = ("bytes", "pieces")
#: Tokens looked at in a state, of those that the mask allows and of the others.
_SAMPLE = 25
_SEEDS = st.integers(0, 2**32 - 1)


@functools.cache
def tokenizer(vocabulary: str) -> Tokenizer:
    """ "bytes": byte-level BPE, with an added token that is not special; "pieces": characters with byte fallback."""
    return byte_level(added=["<tool>"]) if vocabulary == "bytes" else pieces_with_fallback()


class GrammarBackendSuite(OfferSuite[GrammarBackendSpec]):
    """Grammars of each kind in ``spec.kinds``, over two small vocabularies."""

    kind = "grammar_backends"
    confirms: ClassVar[Mapping[str, str]] = {
        "rollback": "masks are the same after any tokens, the end token too, were accepted and taken back",
        "tag_formats": "structural tags of all formats that calls of functions are written with compile, and hold",
    }

    #: Ids of the testkit's grammars that the backend does not compile ("regex:a{0,3}"); the suite then checks
    #: that it says so.
    refuses: ClassVar[Collection[str]] = ()
    #: Grammars of your own, beside the testkit's.
    more_cases: ClassVar[Sequence[GrammarCase]] = ()
    #: (kind, source) of more sources that are no grammars, or that the backend has a limit for.
    more_bad_sources: ClassVar[Sequence[tuple[str, str]]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        suite = metafunc.cls
        assert suite is not None
        if "case" in metafunc.fixturenames:
            cases = suite.cases()
            metafunc.parametrize("case", cases, ids=[ascii(case.id)[1:40] for case in cases])
        if "pattern" in metafunc.fixturenames:
            patterns = [case for case in suite.cases() if case.over_bytes is not None]
            metafunc.parametrize("pattern", patterns, ids=[ascii(case.source)[1:40] for case in patterns])
        if "vocabulary" in metafunc.fixturenames:
            metafunc.parametrize("vocabulary", VOCABULARIES)
        if "bad" in metafunc.fixturenames:
            bad = [(kind, source) for kind in suite.kinds() for source in BAD_SOURCES.get(kind, ())]
            bad += [*suite.more_bad_sources, *((case.kind, case.source) for case in CASES if case.id in suite.refuses)]
            bad.append(("unheard_of", "x"))
            metafunc.parametrize("bad", bad, ids=[ascii(f"{kind}:{source}")[1:40] for kind, source in bad])

    @classmethod
    def kinds(cls) -> list[str]:
        """The kinds that the offer declares."""
        return sorted(cls.offer().spec.kinds)

    @classmethod
    def cases(cls) -> list[GrammarCase]:
        """The grammars that the backend has to compile."""
        known = [case for case in CASES if case.kind in cls.offer().spec.kinds and case.id not in cls.refuses]
        return [*known, *cls.more_cases]

    @classmethod
    def make(cls, env: GrammarEnv) -> GrammarBackend:
        backend = cls.target()(env)
        assert isinstance(backend, GrammarBackend), "the target must be a subclass of GrammarBackend"
        return backend

    @classmethod
    @functools.cache
    def backend(cls, vocabulary: str) -> GrammarBackend:
        """The backend for one of the vocabularies, made once."""
        return cls.make(environment(tokenizer(vocabulary), options=cls.checked_options()))

    @classmethod
    @functools.cache
    def compiled(cls, kind: str, source: str, vocabulary: str) -> CompiledGrammar:
        """A grammar, compiled once."""
        return cls.backend(vocabulary).compile(kind, source)

    @classmethod
    def env(cls, vocabulary: str) -> GrammarEnv:
        return cls.backend(vocabulary).env

    @classmethod
    def matcher(cls, case: GrammarCase, vocabulary: str = "bytes") -> GrammarMatcher:
        """A fresh matcher of a grammar that is compiled once."""
        return cls.compiled(case.kind, case.source, vocabulary).matcher()

    @classmethod
    def after(cls, case: GrammarCase, vocabulary: str, ids: Sequence[int]) -> GrammarMatcher:
        """A fresh matcher that has accepted ``ids``."""
        matcher = cls.matcher(case, vocabulary)
        assert all(map(matcher.accept_token, ids)), "accepted before, and refused by a fresh matcher"
        return matcher

    @classmethod
    def walk(cls, case: GrammarCase, vocabulary: str, seed: int, most: int) -> list[int]:
        """The first tokens of a random output, end tokens aside."""
        env, random = cls.env(vocabulary), Random(seed)
        begin = random.choice(["", *case.beginnings])
        ids = Speller(env).ids(begin)
        matcher = cls.after(case, vocabulary, ids)
        for _ in range(random.randint(0, most)):
            choices = sorted(set(allowed(matcher, env.vocab_size)) - set(env.end_token_ids))
            if not choices:
                break
            ids.append(random.choice(choices))
            assert matcher.accept_token(ids[-1]), f"token {ids[-1]} is in the mask and is refused"
        return ids

    def test_kinds_are_grammar_fields_of_requests(self) -> None:
        assert self.kinds(), "`kinds` is empty: no request would ever reach the backend"
        assert set(self.kinds()) <= set(KINDS)

    # --- the language ---

    @pytest.mark.parametrize("how", ["longest", "shortest", "random"])
    def test_texts_of_the_language_are_accepted(self, case: GrammarCase, vocabulary: str, how: Any) -> None:
        """In whatever tokens they are written, also in halves of a character."""
        env = self.env(vocabulary)
        for text in case.accepted:
            assert case.judge(text), f"the case is wrong: {text!r} is not in its language"
            matcher = self.matcher(case, vocabulary)
            for token_id in Speller(env).ids(text, how):
                assert not matcher.is_terminated
                assert token_id in allowed(matcher, env.vocab_size), f"forbids a token of {text!r}"
                assert matcher.accept_token(token_id)
            assert env.end_token_ids[0] in allowed(matcher, env.vocab_size), f"{text!r} may not end"
            assert matcher.accept_token(env.end_token_ids[0])
            assert matcher.is_terminated

    def test_other_texts_are_refused(self, case: GrammarCase, vocabulary: str) -> None:
        env = self.env(vocabulary)
        for text in case.refused:
            assert not case.judge(text), f"the case is wrong: {text!r} is in its language"
            matcher = self.matcher(case, vocabulary)
            ids = [*Speller(env).ids(text), env.end_token_ids[0]]
            assert not all(map(matcher.accept_token, ids)), f"{text!r} is not in the language"

    @examples(4)
    @given(seed=_SEEDS)
    def test_any_output_that_the_masks_allow_is_in_the_language(
        self, case: GrammarCase, vocabulary: str, seed: int
    ) -> None:
        env = self.env(vocabulary)
        begin = self.walk(case, vocabulary, seed, 0)
        ids = begin + random_output(env, self.after(case, vocabulary, begin), Random(seed), hurry_after=20)
        assert ids[-1] in env.end_token_ids
        # Halves of characters within a JSON string are shown as U+FFFD; the document is still one.
        text = spell(env.tokenizer, ids).decode(errors="replace")
        assert case.judge(text), f"{text!r} is not in the language"

    # --- masks ---

    @examples(4)
    @given(seed=_SEEDS)
    def test_the_mask_allows_what_is_accepted_and_nothing_else(
        self, case: GrammarCase, vocabulary: str, seed: int
    ) -> None:
        env, random = self.env(vocabulary), Random(seed)
        ids = self.walk(case, vocabulary, seed, 6)
        inside = set(allowed(self.after(case, vocabulary, ids), env.vocab_size))
        outside = sorted(set(range(env.vocab_size)) - inside)
        tried = {*random.sample(sorted(inside), min(_SAMPLE, len(inside))), *env.end_token_ids}
        tried |= {*random.sample(outside, min(_SAMPLE, len(outside)))}
        for token_id in sorted(tried):
            accepted = self.after(case, vocabulary, ids).accept_token(token_id)
            text = spell(env.tokenizer, [*ids, token_id])
            assert accepted == (token_id in inside), f"token {token_id} ({text!r}): accepted {accepted}, mask differs"

    @examples(4)
    @given(seed=_SEEDS)
    def test_masks_of_a_regex_are_exact(self, pattern: GrammarCase, vocabulary: str, seed: int) -> None:
        """Every token is judged, by partial matches over bytes, so that halves of characters count too."""
        env = self.env(vocabulary)
        assert pattern.over_bytes is not None
        judge = regex.compile(pattern.over_bytes)
        ids = self.walk(pattern, vocabulary, seed, 6)
        inside = set(allowed(self.after(pattern, vocabulary, ids), env.vocab_size))
        for token_id in range(env.vocab_size):
            text = spell(env.tokenizer, [*ids, token_id])
            if token_id in env.end_token_ids:
                expected = judge.fullmatch(text) is not None
            elif token_id in env.tokenizer.special_ids or token_id >= env.tokenizer.vocab_size:
                expected = False
            else:
                expected = judge.fullmatch(text, partial=True) is not None
            assert (token_id in inside) == expected, f"token {token_id} ({text!r}) is {'in' if expected else 'out'}"

    @examples(3)
    @given(seed=_SEEDS)
    def test_no_special_token_and_no_bit_beyond_the_vocabulary(
        self, case: GrammarCase, vocabulary: str, seed: int
    ) -> None:
        """The rows of the logits beyond the tokenizer's are no tokens either. Around tags, text is the model's own."""
        env = self.env(vocabulary)
        inside = allowed(self.after(case, vocabulary, self.walk(case, vocabulary, seed, 6)), env.vocab_size)
        assert inside, "the mask allows no token at all"
        assert max(inside) < env.tokenizer.vocab_size
        if case.kind != "structural_tag":
            assert set(inside) & env.tokenizer.special_ids <= set(env.end_token_ids)

    # --- matchers ---

    @examples(3)
    @given(seed=_SEEDS)
    def test_a_refused_token_changes_nothing(self, case: GrammarCase, vocabulary: str, seed: int) -> None:
        env = self.env(vocabulary)
        matcher = self.after(case, vocabulary, self.walk(case, vocabulary, seed, 5))
        before = allowed(matcher, env.vocab_size)
        outside = sorted(set(range(env.vocab_size)) - set(before))
        for token_id in (*Random(seed).sample(outside, min(_SAMPLE, len(outside))), env.vocab_size + 5, -1):
            assert not matcher.accept_token(token_id)
            assert allowed(matcher, env.vocab_size) == before
            assert not matcher.is_terminated

    def test_nothing_follows_an_end_token(self, case: GrammarCase, vocabulary: str) -> None:
        env = self.env(vocabulary)
        ids = Speller(env).ids(case.accepted[0])
        matcher = self.after(case, vocabulary, [*ids, env.end_token_ids[0]])
        assert matcher.is_terminated
        assert not any(map(matcher.accept_token, [*ids[:1], *ids[-1:], env.end_token_ids[0]]))
        assert matcher.is_terminated

    def test_matchers_of_one_grammar_are_independent(self, case: GrammarCase, vocabulary: str) -> None:
        env = self.env(vocabulary)
        compiled = self.compiled(case.kind, case.source, vocabulary)
        first, second = compiled.matcher(), compiled.matcher()
        start = allowed(second, env.vocab_size)
        for text in case.accepted:
            first = compiled.matcher()
            assert all(map(first.accept_token, [*Speller(env).ids(text), env.end_token_ids[0]]))
            assert allowed(second, env.vocab_size) == start
        assert not second.is_terminated
        assert allowed(compiled.matcher(), env.vocab_size) == start
        assert compiled.num_bytes > 0

    @examples(6)
    @given(seed=_SEEDS)
    def test_tokens_can_be_taken_back(self, case: GrammarCase, vocabulary: str, seed: int) -> None:
        self.need("rollback")
        env, random = self.env(vocabulary), Random(seed)
        matcher = self.matcher(case, vocabulary)
        masks: list[list[int] | None] = [allowed(matcher, env.vocab_size)]
        for _ in range(20):
            choices = masks[-1]
            if choices is None or random.random() < 0.35:
                back = random.randint(min(1, len(masks) - 1), len(masks) - 1)
                matcher.rollback(back)
                del masks[len(masks) - back :]
            else:
                ends = [index for index in env.end_token_ids if index in choices]
                token_id = random.choice(ends if ends and random.random() < 0.3 else choices)
                assert matcher.accept_token(token_id)
                # Nothing is asked of a mask behind the end.
                masks.append(None if matcher.is_terminated else allowed(matcher, env.vocab_size))
            assert matcher.is_terminated == (masks[-1] is None)
            if masks[-1] is not None:
                assert allowed(matcher, env.vocab_size) == masks[-1]

    # --- structural tags ---

    def test_structural_tags_of_all_formats_hold(self, vocabulary: str) -> None:
        self.need("tag_formats")
        env = self.env(vocabulary)
        for text in (*TAG_FORMATS.accepted, *TAG_FORMATS.refused):
            matcher = self.matcher(TAG_FORMATS, vocabulary)
            ids = [*Speller(env).ids(text), env.end_token_ids[0]]
            assert all(map(matcher.accept_token, ids)) is (text in TAG_FORMATS.accepted), text

    # --- environments ---

    def test_any_of_several_end_tokens_ends_the_output(self) -> None:
        """One beyond the logits cannot be sampled and is left out."""
        known = tokenizer("bytes")
        ends = tuple(sorted(known.special_ids)[:2])
        env = GrammarEnv(
            tokenizer=known,
            vocab_size=known.vocab_size,
            end_token_ids=(*ends, 10**6),
            options=self.checked_options(),
        )
        case = self.cases()[0]
        compiled = self.make(env).compile(case.kind, case.source)
        for end in ends:
            matcher = compiled.matcher()
            assert all(map(matcher.accept_token, Speller(env).ids(case.accepted[0])))
            assert set(ends) <= set(allowed(matcher, env.vocab_size))
            assert matcher.accept_token(end)
            assert matcher.is_terminated

    def test_compiles_in_several_threads(self) -> None:
        """``compile`` is called from worker threads, several at a time."""
        backend = self.make(environment(tokenizer("bytes"), options=self.checked_options()))
        cases = self.cases()
        with ThreadPoolExecutor(4) as pool:
            compiled = list(pool.map(lambda case: backend.compile(case.kind, case.source), [*cases, *cases]))
        for case, grammar in zip([*cases, *cases], compiled, strict=True):
            expected = allowed(self.matcher(case), backend.env.vocab_size)
            assert allowed(grammar.matcher(), backend.env.vocab_size) == expected

    def test_what_does_not_compile_is_the_requests_error(self, bad: tuple[str, str]) -> None:
        kind, source = bad
        backend = self.backend("bytes")
        with pytest.raises(RequestError) as caught:
            backend.compile(kind, source)
        assert caught.value.status_code == 400
        assert caught.value.param == kind, "`param` is the field of the request"
        assert kind in str(caught.value), "say which field is wrong, and why"
        assert len(str(caught.value)) < 1000, "quote the beginning of a long source only"
        case = self.cases()[0]
        matcher = backend.compile(case.kind, case.source).matcher()
        assert allowed(matcher, backend.env.vocab_size), "the backend is of no use after an error"
