"""Every grammar backend that we ship: sound masks, rollback, errors."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import regex  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarBackend, GrammarEnv
from hookline.testkit.tokenizers import byte_level_bpe, sentencepiece_bpe
from hookline.text.tokenizer import Tokenizer, load_tokenizer
from hookline_grammar.options import GrammarOptions
from hookline_grammar.outlines import OutlinesBackend
from hookline_grammar.plugin import PLUGIN, hookline_grammar_backends
from hookline_grammar.xgrammar import XGrammarBackend
from tests.factories.grammars import accepts, allowed, environment, random_output, spell

TARGETS: dict[str, type[GrammarBackend]] = {"xgrammar": XGrammarBackend, "outlines": OutlinesBackend}
REGEXES = [
    "ab+c",
    "(yes|no)",
    r"[0-9]{1,3}(\.[0-9][0-9])?",
    "[A-Z ]{2,4}",
    "é|漢字|😀",
    r"[A-Z][a-z]* (the|be)",
    "(ab|ba)*!",
]
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {"enum": ["red", "Grüß", 7, None, {"x": [1]}]},
    {"type": "string", "enum": ["on", "off"]},
    {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}}]},
    {"type": "string", "minLength": 2, "maxLength": 6},
    {"type": ["integer", "null"]},
    {
        "$defs": {"leaf": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
        "type": "object",
        "properties": {"leaves": {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 2}},
        "required": ["leaves"],
        "additionalProperties": False,
    },
]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    return {
        "byte_level_bpe": load_tokenizer(byte_level_bpe(Path(tmp_path_factory.mktemp("bytes")))),
        "sentencepiece_bpe": load_tokenizer(sentencepiece_bpe(Path(tmp_path_factory.mktemp("pieces")))),
    }


@pytest.fixture(scope="module")
def backends(tokenizers: dict[str, Tokenizer]) -> dict[tuple[str, str], GrammarBackend]:
    return {
        (name, kind): target(environment(tokenizer))
        for name, target in TARGETS.items()
        for kind, tokenizer in tokenizers.items()
    }


@pytest.fixture(params=list(TARGETS))
def backend(request: pytest.FixtureRequest, backends: dict[tuple[str, str], GrammarBackend]) -> GrammarBackend:
    return backends[request.param, "byte_level_bpe"]


def test_hook_hookline_grammar_backends() -> None:
    specs = {spec.name: spec for spec in hookline_grammar_backends()}
    assert PLUGIN.provides == ("grammar_backends",)
    assert set(specs) == set(TARGETS)
    for name, target in TARGETS.items():
        assert specs[name].target == f"{target.__module__}:{target.__qualname__}"
        assert specs[name].kinds <= {"json_schema", "regex", "ebnf", "structural_tag"}
    assert specs["xgrammar"].priority > specs["outlines"].priority


# --- masks ---


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
@pytest.mark.parametrize("name", list(TARGETS))
@given(pattern=st.sampled_from(REGEXES), random=st.randoms(use_true_random=True))
@settings(deadline=None, max_examples=20)
def test_masks_allow_exactly_the_tokens_that_can_go_on(
    backends: dict[tuple[str, str], GrammarBackend], name: str, kind: str, pattern: str, random: Random
) -> None:
    backend = backends[name, kind]
    tokenizer, size = backend.env.tokenizer, backend.env.vocab_size
    # These patterns mean the same over the bytes of UTF-8, so half a character can be judged too.
    oracle = regex.compile(pattern.encode())
    matcher = backend.compile("regex", pattern).matcher()
    ids: list[int] = []
    for _ in range(8):
        choices = set(allowed(matcher, size))
        assert choices
        for token_id in range(size):
            text = spell(tokenizer, [*ids, token_id])
            if token_id in backend.env.end_token_ids:
                expected = oracle.fullmatch(text) is not None
            elif token_id in tokenizer.special_ids or token_id >= tokenizer.vocab_size:
                expected = False
            else:
                expected = oracle.fullmatch(text, partial=True) is not None
            assert (token_id in choices) == expected, (text, token_id)
        token_id = random.choice(sorted(choices))
        assert matcher.accept_token(token_id)
        if matcher.is_terminated:
            break
        ids.append(token_id)


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
@pytest.mark.parametrize("name", list(TARGETS))
@given(schema=st.sampled_from(SCHEMAS), random=st.randoms(use_true_random=True))
@settings(deadline=None, max_examples=20)
def test_any_output_that_the_masks_allow_follows_the_schema(
    backends: dict[tuple[str, str], GrammarBackend], name: str, kind: str, schema: dict[str, Any], random: Random
) -> None:
    backend = backends[name, kind]
    matcher = backend.compile("json_schema", json.dumps(schema)).matcher()
    ids = random_output(backend, matcher, random, hurry_after=30)
    assert ids[-1] in backend.env.end_token_ids
    # Half characters within a string are shown as U+FFFD; the document is still one.
    document = spell(backend.env.tokenizer, ids).decode(errors="replace")
    jsonschema.validate(json.loads(document), schema)


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        (SCHEMAS[0], '{"a": -3, "b": "x\\n é"}'),
        (SCHEMAS[0], '{"a":0}'),
        (SCHEMAS[1], "[true, false]"),
        (SCHEMAS[2], '"Grüß"'),
        (SCHEMAS[4], "[null]"),
        (SCHEMAS[7], '{"leaves": [{"n": 1}, {"n": 2}]}'),
    ],
)
def test_documents_that_follow_the_schema_are_accepted(
    backend: GrammarBackend, schema: dict[str, Any], document: str
) -> None:
    jsonschema.validate(json.loads(document), schema)
    tokenizer = backend.env.tokenizer
    compiled = backend.compile("json_schema", json.dumps(schema))
    assert accepts(compiled.matcher(), tokenizer, document)
    assert not accepts(compiled.matcher(), tokenizer, document[:-1])


def test_special_tokens_never_spell_text(backend: GrammarBackend) -> None:
    tokenizer = backend.env.tokenizer
    choices = allowed(backend.compile("regex", r"[<|>a-z_]+").matcher(), backend.env.vocab_size)
    assert not set(choices) & tokenizer.special_ids
    # An added token that is not special is text like any other.
    assert tokenizer.token_id("<tool>") in choices
    assert max(choices) < tokenizer.vocab_size


# --- matchers ---


def test_matchers_of_one_grammar_are_independent(backend: GrammarBackend) -> None:
    compiled = backend.compile("regex", "ab|cd")
    first, second = compiled.matcher(), compiled.matcher()
    (a, c) = (backend.env.tokenizer.encode(letter)[0] for letter in "ac")
    assert first.accept_token(a)
    assert second.accept_token(c)
    assert not first.accept_token(c)
    assert compiled.num_bytes > 0


@given(data=st.data(), random=st.randoms(use_true_random=True))
@settings(deadline=None, max_examples=20)
@pytest.mark.parametrize("name", list(TARGETS))
def test_rollback_restores_earlier_masks(
    backends: dict[tuple[str, str], GrammarBackend], name: str, data: st.DataObject, random: Random
) -> None:
    backend = backends[name, "byte_level_bpe"]
    size = backend.env.vocab_size
    matcher = backend.compile("regex", data.draw(st.sampled_from(REGEXES))).matcher()
    masks = [allowed(matcher, size)]
    for _ in range(20):
        if random.random() < 0.35:
            back = random.randint(0, len(masks) - 1)
            matcher.rollback(back)
            del masks[len(masks) - back :]
        elif not matcher.is_terminated:
            assert matcher.accept_token(random.choice(masks[-1]))
            masks.append(allowed(matcher, size))
        assert allowed(matcher, size) == masks[-1]


def test_a_refused_token_changes_nothing(backend: GrammarBackend) -> None:
    tokenizer, size = backend.env.tokenizer, backend.env.vocab_size
    matcher = backend.compile("regex", "ab").matcher()
    before = allowed(matcher, size)
    for token_id in (tokenizer.encode("z")[0], backend.env.end_token_ids[0], size - 1, size + 5, -1):
        assert not matcher.accept_token(token_id)
        assert allowed(matcher, size) == before


def test_the_end_token_ends_a_complete_output_and_can_be_undone(backend: GrammarBackend) -> None:
    tokenizer, size = backend.env.tokenizer, backend.env.vocab_size
    (end,) = backend.env.end_token_ids
    matcher = backend.compile("regex", "a").matcher()
    assert matcher.accept_token(tokenizer.encode("a")[0])
    assert not matcher.is_terminated
    assert allowed(matcher, size) == [end]
    assert matcher.accept_token(end)
    assert matcher.is_terminated
    assert not matcher.accept_token(end)
    # Under overlap the mask of a pass after the end may be asked for; it must leave something to sample.
    assert allowed(matcher, size) == [end]
    matcher.rollback(1)
    assert not matcher.is_terminated
    assert allowed(matcher, size) == [end]


@pytest.mark.parametrize("target", TARGETS.values())
def test_without_end_tokens_the_grammar_ends_itself(
    tokenizers: dict[str, Tokenizer], target: type[GrammarBackend]
) -> None:
    tokenizer = tokenizers["byte_level_bpe"]
    backend = target(environment(tokenizer, ends=False))
    matcher = backend.compile("regex", "ab").matcher()
    for token_id in tokenizer.encode("ab"):
        assert not matcher.is_terminated
        assert matcher.accept_token(token_id)
    assert matcher.is_terminated


@pytest.mark.parametrize("target", TARGETS.values())
def test_several_end_tokens_may_end_the_output(tokenizers: dict[str, Tokenizer], target: type[GrammarBackend]) -> None:
    tokenizer = tokenizers["byte_level_bpe"]
    ends = tuple(sorted(tokenizer.special_ids)[:2])
    # One beyond the logits cannot be sampled and is left out.
    env = GrammarEnv(tokenizer=tokenizer, vocab_size=tokenizer.vocab_size, end_token_ids=(*ends, 10**6))
    matcher = target(env).compile("regex", "a").matcher()
    assert matcher.accept_token(tokenizer.encode("a")[0])
    assert allowed(matcher, env.vocab_size) == list(ends)
    assert matcher.accept_token(ends[1])
    assert matcher.is_terminated


# --- errors and options ---


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "(a"),
        ("regex", "[a"),
        ("regex", r"(a)\1"),
        ("regex", "(?=a)a"),
        ("json_schema", "{"),
        ("json_schema", '"text"'),
        ("json_schema", '{"type": "strin"}'),
        ("json_schema", '{"type": 5}'),
        ("json_schema", '{"type": "object", "properties": [1]}'),
        ("json_schema", '{"$ref": "#/$defs/missing"}'),
        ("json_schema", '{"$ref": "https://example.com/schema"}'),
        ("json_schema", '{"type": "string", "pattern": "("}'),
        ("json_schema", '{"type": "array", "items": ' * 150 + "{}" + "}" * 150),
        ("json_schema", "[" * 100_000),
        ("unheard_of", "x"),
    ],
)
def test_bad_sources_are_the_requests_error(backend: GrammarBackend, kind: str, source: str) -> None:
    with pytest.raises(RequestError) as caught:
        backend.compile(kind, source)
    assert caught.value.status_code == 400
    assert caught.value.param == kind
    assert kind in str(caught.value)
    assert len(str(caught.value)) < 700
    # Nothing of the library's insides: times, paths of its sources.
    assert "/project" not in str(caught.value)


@pytest.mark.parametrize("target", TARGETS.values())
@pytest.mark.parametrize("any_whitespace", [True, False])
def test_whitespace_is_an_option(
    tokenizers: dict[str, Tokenizer], target: type[GrammarBackend], any_whitespace: bool
) -> None:
    tokenizer = tokenizers["byte_level_bpe"]
    backend = target(environment(tokenizer, options=GrammarOptions(any_whitespace=any_whitespace)))
    matcher = backend.compile("json_schema", json.dumps(SCHEMAS[0])).matcher()
    assert accepts(matcher, tokenizer, '{ "a" : 1 }') == any_whitespace
