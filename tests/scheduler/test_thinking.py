"""Reasoning before a grammar: where it ends, what may stand there, how it is bounded."""

from __future__ import annotations

import functools
import json
import random
from typing import Any

import numpy as np
import pytest

from hookline.interfaces.grammar import CompiledGrammar
from hookline.interfaces.parsers import ReasoningSpan, SpanState
from hookline.scheduler.spellings import Spellings, begins_character
from hookline.scheduler.thinking import Phase, ThinkingMatcher
from hookline.testkit.grammar_walks import allowed, environment
from hookline.testkit.vocabularies import byte_level, pieces_with_fallback
from hookline.text.tokenizer import Tokenizer

xgrammar = pytest.importorskip("hookline_grammar.xgrammar")

_OPEN, _CLOSE = "<think>", "</think>"
_SCHEMA = json.dumps(
    {"type": "object", "properties": {"a": {"enum": [1, 23]}}, "required": ["a"], "additionalProperties": False}
)
_VOCABULARIES = {
    "markers are several tokens": byte_level,
    "markers run into other text": lambda: byte_level(
        [*(f"x</think>\n\n<th think> {_OPEN}a {_CLOSE}" for _ in range(9))],
        added=("k>x", ">\n\n", "</think>{", "hm</th"),
    ),
    "markers are tokens": lambda: byte_level(added=(_OPEN, _CLOSE)),
    "bytes and a space in front": pieces_with_fallback,
}


@functools.cache
def _vocabulary(name: str) -> tuple[Tokenizer, Spellings, CompiledGrammar]:
    tokenizer = _VOCABULARIES[name]()
    env = environment(tokenizer)
    return (
        tokenizer,
        Spellings(tokenizer, env.vocab_size),
        xgrammar.XGrammarBackend(env).compile("json_schema", _SCHEMA),
    )


def _matcher(
    name: str, state: SpanState, *, has_grammar: bool = True, max_tokens: int | None = None, **span: Any
) -> ThinkingMatcher:
    tokenizer, spellings, grammar = _vocabulary(name)
    assert tokenizer.eos_token_id is not None
    return ThinkingMatcher(
        spellings,
        ReasoningSpan(**{"open": _OPEN, "close": _CLOSE, "state": state, **span}),
        grammar.matcher() if has_grammar else None,
        max_tokens=max_tokens,
        end_ids=frozenset({tokenizer.eos_token_id}),
    )


def _feed(matcher: ThinkingMatcher, name: str, text: str) -> bool:
    """Whether a text can be written, with the longest tokens that the mask allows; all are taken, others are not."""
    _, spellings, _ = _vocabulary(name)
    rest = text.encode()
    while rest:
        ids = [index for end in range(len(rest), 0, -1) for index in spellings.ids_of(rest[:end])]
        choices = set(allowed(matcher, spellings.vocab_size))
        for index in ids:
            if index in choices:
                break
            assert not matcher.accept_token(index)
        else:
            return False
        assert matcher.accept_token(index)
        rest = rest[len(spellings.of[index]) :]
    return True


def _ends(matcher: ThinkingMatcher, name: str) -> bool:
    tokenizer, spellings, _ = _vocabulary(name)
    return tokenizer.eos_token_id in allowed(matcher, spellings.vocab_size)


@pytest.mark.parametrize("name", _VOCABULARIES)
class TestWithAGrammar:
    @pytest.mark.parametrize(
        ("state", "text"),
        [
            ("open", 'hm {"b": } </thin </think>{"a": 1}'),
            ("open", 'hm\n</think>\n\n{"a": 1}'),
            ("open", '</think>{"a": 23}'),
            ("open", '</th</think>{"a": 23}'),
            ("possible", '<think>a</think> {"a": 1}'),
            ("possible", '{"a": 1}'),
            ("closed", '{"a": 23}'),
        ],
    )
    def test_the_answer_comes_behind_the_reasoning(self, name: str, state: SpanState, text: str) -> None:
        matcher = _matcher(name, state)
        assert _feed(matcher, name, text)
        assert not matcher.is_terminated
        assert _ends(matcher, name)
        eos = _vocabulary(name)[0].eos_token_id
        assert eos is not None
        assert matcher.accept_token(eos)
        assert matcher.is_terminated

    @pytest.mark.parametrize(
        ("state", "text"),
        [
            ("open", 'hm</think>so {"a": 1}'),
            ("open", 'hm</think>{"b": 1}'),
            ("possible", 'so {"a": 1}'),
            ("possible", '<thin{"a": 1}'),
            ("closed", "<think>"),
        ],
    )
    def test_what_is_neither_is_refused(self, name: str, state: SpanState, text: str) -> None:
        assert not _feed(_matcher(name, state), name, text)

    def test_the_output_does_not_end_before_the_answer(self, name: str) -> None:
        matcher = _matcher(name, "open")
        eos = _vocabulary(name)[0].eos_token_id
        assert eos is not None
        for text in ("hm", _CLOSE, "\n", '{"a": '):
            assert not _ends(matcher, name)
            assert not matcher.accept_token(eos)
            assert _feed(matcher, name, text)

    @pytest.mark.parametrize("max_tokens", [0, 1, 5])
    @pytest.mark.parametrize("state", ["open", "possible"])
    def test_a_bound_closes_the_reasoning(self, name: str, state: SpanState, max_tokens: int) -> None:
        _, spellings, _ = _vocabulary(name)
        for seed in range(5):
            rng = random.Random(seed)
            matcher = _matcher(name, state, max_tokens=max_tokens)
            if state == "possible":
                assert _feed(matcher, name, _OPEN)
            ids: list[int] = []
            while matcher._place.phase is Phase.THINKING:
                ids.append(rng.choice(allowed(matcher, spellings.vocab_size)))
                assert matcher.accept_token(ids[-1])
            text = b"".join(spellings.of[index] for index in ids).rstrip()
            assert text.endswith(_CLOSE.encode())
            # A bound may fall into a marker, or into a character of up to four bytes.
            assert len(ids) <= max_tokens + 3 + len(_CLOSE)
            assert _feed(matcher, name, '{"a": 1}')

    def test_all_that_the_mask_allows_leads_to_an_answer(self, name: str) -> None:
        tokenizer, spellings, _ = _vocabulary(name)
        closing = [tokenizer.eos_token_id, *spellings.ids_of(b"}")]
        for seed in range(12):
            rng = random.Random(seed)
            matcher = _matcher(name, rng.choice(["open", "possible"]), max_tokens=rng.choice([None, 3, 9]))
            ids: list[int] = []
            while not matcher.is_terminated:
                choices = allowed(matcher, spellings.vocab_size)
                assert choices
                if len(ids) > 30:
                    # To the end by the shortest way.
                    place = matcher._place
                    wanted = [matcher._close.next_id(place.matched)] if place.phase is Phase.THINKING else closing
                    choices = [index for index in wanted if index in choices] or choices
                ids.append(rng.choice(choices))
                assert matcher.accept_token(ids[-1])
                assert len(ids) < 400
            text = b"".join(spellings.of[index] for index in ids[:-1]).decode(errors="replace")
            assert json.loads(text.rpartition(_CLOSE)[2])["a"] in (1, 23)

    def test_tokens_are_taken_back(self, name: str) -> None:
        _, spellings, _ = _vocabulary(name)
        for text in ('<think>h</th é</think>\n{"a": 23}', '{"a": 1}'):
            matcher = _matcher(name, "possible", max_tokens=40)
            ids = [index for byte in text.encode() for index in spellings.ids_of(bytes([byte]))[:1]]
            masks = [allowed(matcher, spellings.vocab_size)]
            for index in ids:
                assert matcher.accept_token(index)
                masks.append(allowed(matcher, spellings.vocab_size))
            rng = random.Random(text)
            at = len(ids)
            for _ in range(60):
                back = rng.randint(0, at)
                matcher.rollback(back)
                at -= back
                assert allowed(matcher, spellings.vocab_size) == masks[at]
                for index in ids[at : rng.randint(at, len(ids))]:
                    assert matcher.accept_token(index)
                    at += 1
                assert allowed(matcher, spellings.vocab_size) == masks[at]


@pytest.mark.parametrize("name", _VOCABULARIES)
class TestWithoutAGrammar:
    def test_only_the_bound_is_enforced(self, name: str) -> None:
        _, spellings, _ = _vocabulary(name)
        everything = list(range(spellings.vocab_size))
        matcher = _matcher(name, "possible", has_grammar=False, max_tokens=2)
        assert _feed(matcher, name, "any text, <thin and ")
        assert allowed(matcher, spellings.vocab_size) == everything
        assert _feed(matcher, name, _OPEN)
        for _ in range(2):
            assert allowed(matcher, spellings.vocab_size) == everything
            assert matcher.accept_token(spellings.ids_of(b"a")[0])
        assert len(allowed(matcher, spellings.vocab_size)) == 1
        assert _feed_forced(matcher, spellings) == _CLOSE
        assert allowed(matcher, spellings.vocab_size) == everything
        # What was thought before counts for further reasoning.
        assert _feed(matcher, name, "more " + _OPEN)
        assert _feed_forced(matcher, spellings) == _CLOSE
        assert not matcher.is_terminated

    def test_a_bound_that_is_not_met_forces_nothing(self, name: str) -> None:
        _, spellings, _ = _vocabulary(name)
        matcher = _matcher(name, "open", has_grammar=False, max_tokens=50)
        assert _feed(matcher, name, f"hm{_CLOSE}" + "x" * 100)
        assert len(allowed(matcher, spellings.vocab_size)) == spellings.vocab_size


def _feed_forced(matcher: ThinkingMatcher, spellings: Spellings) -> str:
    text = b""
    while len(choices := allowed(matcher, spellings.vocab_size)) == 1:
        assert matcher.accept_token(choices[0])
        text += spellings.of[choices[0]]
    return text.decode()


def test_a_marker_of_what_follows_ends_reasoning_if_the_grammar_begins_with_it() -> None:
    name = "markers are tokens"
    _, spellings, _ = _vocabulary(name)
    # The grammar begins with the brace alone.
    for mark, is_exit in (("{", True), ("[", False)):
        matcher = _matcher(name, "open", exits=(mark,))
        assert _feed(matcher, name, "hm")
        (index,) = spellings.ids_of(mark.encode())
        assert (index in allowed(matcher, spellings.vocab_size)) is is_exit
        assert matcher.accept_token(index) is is_exit
        if is_exit:
            assert _feed(matcher, name, '"a": 1}')


def test_places_in_characters() -> None:
    for character in "aé東👩":
        spelt = character.encode()
        assert not begins_character(b"x" + spelt)
        assert all(begins_character(b"x" + spelt[:end]) for end in range(1, len(spelt)))
    assert not begins_character(b"")
    assert not begins_character(b"\x80\x80\x80")


def test_bits_are_tokens() -> None:
    _, spellings, _ = _vocabulary("markers are tokens")
    bits_W = spellings.bits([0, 31, 32, 100])
    assert bits_W.dtype == np.int32
    assert [index for index in range(spellings.vocab_size) if bits_W[index // 32] >> index % 32 & 1] == [0, 31, 32, 100]
