"""What the suite of the testkit leaves open and the shipped backends do alike."""

from __future__ import annotations

import json

import pytest

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarBackend
from hookline.testkit.grammar_walks import accepts, allowed, environment
from hookline.testkit.vocabularies import byte_level
from hookline.text.tokenizer import Tokenizer
from hookline_grammar.llguidance import LLGuidanceBackend
from hookline_grammar.options import GrammarOptions
from hookline_grammar.outlines import OutlinesBackend
from hookline_grammar.plugin import PLUGIN, hookline_grammar_backends
from hookline_grammar.xgrammar import XGrammarBackend

TARGETS: dict[str, type[GrammarBackend]] = {
    "xgrammar": XGrammarBackend,
    "llguidance": LLGuidanceBackend,
    "outlines": OutlinesBackend,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_level()


@pytest.fixture(params=list(TARGETS))
def target(request: pytest.FixtureRequest) -> type[GrammarBackend]:
    return TARGETS[request.param]


def test_hook_hookline_grammar_backends() -> None:
    specs = {spec.name: spec for spec in hookline_grammar_backends()}
    assert PLUGIN.provides == ("grammar_backends",)
    assert set(specs) == set(TARGETS)
    for name, target in TARGETS.items():
        assert specs[name].target == f"{target.__module__}:{target.__qualname__}"
    assert specs["xgrammar"].priority > specs["llguidance"].priority > specs["outlines"].priority


def test_the_mask_behind_the_end_leaves_the_end(target: type[GrammarBackend], tokenizer: Tokenizer) -> None:
    """Under overlap the mask of a pass after the end may be asked for; it must leave something to sample."""
    backend = target(environment(tokenizer))
    (end,) = backend.env.end_token_ids
    matcher = backend.compile("regex", "a").matcher()
    assert matcher.accept_token(tokenizer.encode("a")[0])
    assert matcher.accept_token(end)
    assert allowed(matcher, backend.env.vocab_size) == [end]


def test_without_end_tokens_the_grammar_ends_itself(target: type[GrammarBackend], tokenizer: Tokenizer) -> None:
    matcher = target(environment(tokenizer, ends=False)).compile("regex", "ab").matcher()
    for token_id in tokenizer.encode("ab"):
        assert not matcher.is_terminated
        assert matcher.accept_token(token_id)
    assert matcher.is_terminated


@pytest.mark.parametrize("source", ["(a", "[a", r"(a)\1"])
def test_errors_show_nothing_of_the_librarys_insides(
    target: type[GrammarBackend], tokenizer: Tokenizer, source: str
) -> None:
    with pytest.raises(RequestError) as caught:
        target(environment(tokenizer)).compile("regex", source)
    # Times, and paths of its sources.
    assert "/project" not in str(caught.value)


@pytest.mark.parametrize("any_whitespace", [True, False])
def test_whitespace_is_an_option(target: type[GrammarBackend], tokenizer: Tokenizer, any_whitespace: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    backend = target(environment(tokenizer, options=GrammarOptions(any_whitespace=any_whitespace)))
    matcher = backend.compile("json_schema", json.dumps(schema)).matcher()
    assert accepts(matcher, tokenizer, '{ "a" : 1 }') == any_whitespace
