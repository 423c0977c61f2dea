"""What ends under a mask follows its schema; what is cut short can go on; what is bounded ends."""

from __future__ import annotations

import functools
import json
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from hookline.errors import RequestError
from hookline.interfaces.grammar import CompiledGrammar, GrammarBackend, GrammarMatcher
from hookline.testkit.grammar_walks import allowed, environment, spell
from hookline.testkit.vocabularies import byte_level
from hookline_grammar.llguidance import LLGuidanceBackend
from hookline_grammar.options import GrammarOptions
from hookline_grammar.xgrammar import XGrammarBackend
from tests.grammar.keyword_table import COMMAND, PAGE, regenerated
from tests.grammar.schema_corpus import SchemaCase, corpus

#: Of the automata of outlines some take minutes; random schemas in test_schema_check.py are its share.
BACKENDS: dict[str, type[GrammarBackend]] = {"xgrammar": XGrammarBackend, "llguidance": LLGuidanceBackend}
CASES = corpus()
#: More than any answer of a bounded schema takes, without white space.
MAX_TOKENS = 1500


@functools.cache
def backend(name: str) -> GrammarBackend:
    return BACKENDS[name](environment(byte_level(), options=GrammarOptions(any_whitespace=False)))


@functools.cache
def compiled(name: str, source: str) -> CompiledGrammar | None:
    """``None`` for a schema that the backend refuses."""
    try:
        return backend(name).compile("json_schema", source)
    except RequestError:
        return None


def step(matcher: GrammarMatcher, name: str, random: Random, *, hurry: bool) -> int:
    """Accept a random token of those that the mask allows; it ends, or closes what is open, in a hurry."""
    env = backend(name).env
    choices = allowed(matcher, env.vocab_size)
    if hurry:
        closing = [env.tokenizer.token_id(text) for text in ('"', "]", "}")]
        ends = [token_id for token_id in env.end_token_ids if token_id in choices]
        choices = ends or [token_id for token_id in closing if token_id in choices] or choices
    token_id = random.choice(choices)
    assert matcher.accept_token(token_id), f"token {token_id} is in the mask and is refused"
    return token_id


def check(name: str, case: SchemaCase, seed: int) -> None:
    """One random answer."""
    source = json.dumps(case.schema)
    grammar = compiled(name, source)
    if grammar is None:
        return
    random, matcher = Random(seed), grammar.matcher()
    ids: list[int] = []
    hurry_after = random.choice([0, 5, 25, 100]) if not case.is_bounded else MAX_TOKENS
    while not matcher.is_terminated and len(ids) < MAX_TOKENS:
        ids.append(step(matcher, name, random, hurry=len(ids) >= hurry_after))
    env = backend(name).env
    if not matcher.is_terminated:
        assert not case.is_bounded, f"{source} does not come to an end"
        again = grammar.matcher()
        assert all(map(again.accept_token, ids)), "what was cut short is a prefix"
        assert allowed(again, env.vocab_size), "that can go on"
        return
    try:
        text = spell(env.tokenizer, ids).decode()
    except UnicodeDecodeError:
        # Half characters count differently in lengths once they are replaced.
        return
    assert _is_valid(case.schema, text), f"{text!r} does not follow {source}"


def _is_valid(schema: Any, text: str) -> bool:
    """As the jsonschema package sees it, with decimal fractions where binary ones are not multiples of each other."""
    if jsonschema.Draft202012Validator(schema).is_valid(json.loads(text)):
        return True
    if not isinstance(schema, dict) or "multipleOf" not in schema:
        return False
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    return bool(jsonschema.Draft202012Validator(exact).is_valid(json.loads(text, parse_float=Decimal)))


@pytest.mark.parametrize("name", list(BACKENDS))
def test_a_sample_of_answers_follows_its_schema(name: str) -> None:
    for number, case in enumerate(CASES[::3]):
        check(name, case, number)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BACKENDS))
@pytest.mark.parametrize("number", range(len(CASES)))
def test_every_answer_follows_its_schema(name: str, number: int) -> None:
    for seed in range(40):
        check(name, CASES[number], seed)


def test_the_corpus_is_large_and_mostly_enforced() -> None:
    assert len(CASES) >= 300
    assert len({json.dumps(case.schema) for case in CASES}) > 290
    for name in BACKENDS:
        enforced = [case for case in CASES if compiled(name, json.dumps(case.schema)) is not None]
        assert len(enforced) >= 240


def test_the_table_of_keywords_is_current() -> None:
    page = Path(PAGE)
    assert page.read_text(encoding="utf-8") == regenerated(), f"{page} is stale; run: {COMMAND}"
