"""What only the xgrammar backend does: EBNF, structural tags, free objects."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from hookline.errors import RequestError
from hookline.testkit.grammar_walks import accepts, environment, random_output, spell
from hookline.testkit.tokenizers import byte_level_bpe
from hookline.text.tokenizer import Tokenizer, load_tokenizer
from hookline_grammar.options import GrammarOptions
from hookline_grammar.xgrammar import XGrammarBackend

TAGS = {
    "type": "structural_tag",
    "format": {
        "type": "triggered_tags",
        "triggers": ["<f="],
        "tags": [
            {
                "type": "tag",
                "begin": "<f=a>",
                "content": {
                    "type": "json_schema",
                    "json_schema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
                },
                "end": "</f>",
            }
        ],
    },
}
OLD_TAGS = {
    "structures": [
        {
            "begin": "<f=a>",
            "schema": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
            "end": "</f>",
        }
    ],
    "triggers": ["<f="],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(byte_level_bpe(Path(tmp_path_factory.mktemp("tokenizer"))))


@pytest.fixture(scope="module")
def backend(tokenizer: Tokenizer) -> XGrammarBackend:
    return XGrammarBackend(environment(tokenizer))


def test_ebnf_is_followed(backend: XGrammarBackend, tokenizer: Tokenizer) -> None:
    source = 'root ::= pair ("," pair)*\npair ::= "(" ("a" | pair) ")"'
    compiled = backend.compile("ebnf", source)
    assert accepts(compiled.matcher(), tokenizer, "(a),((a))")
    assert not accepts(compiled.matcher(), tokenizer, "((a)")
    for seed in range(5):
        text = spell(tokenizer, random_output(backend.env, compiled.matcher(), Random(seed), hurry_after=10)).decode()
        assert text.count("(") == text.count(")") > 0


@pytest.mark.parametrize("source", [TAGS, OLD_TAGS])
def test_structural_tags_constrain_what_follows_a_trigger(
    backend: XGrammarBackend, tokenizer: Tokenizer, source: dict[str, object]
) -> None:
    compiled = backend.compile("structural_tag", json.dumps(source))
    assert accepts(compiled.matcher(), tokenizer, "free text, no tag")
    assert accepts(compiled.matcher(), tokenizer, 'before <f=a>{"x": 1}</f> after')
    assert not accepts(compiled.matcher(), tokenizer, 'before <f=a>{"y": 1}</f>')
    assert not accepts(compiled.matcher(), tokenizer, "<f=b>")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x", "not valid JSON"),
        ("{}", "structural_tag does not compile"),
        ('{"structures": [{"begin": "a"}], "triggers": ["a"]}', "'begin' and 'end'"),
        ('{"structures": [], "triggers": 5}', "structural_tag does not compile"),
        (
            json.dumps({"structures": [{"begin": "<a>", "end": "b", "schema": {"not": {}}}], "triggers": ["<a>"]}),
            "does not enforce 'not'",
        ),
    ],
)
def test_bad_structural_tags_are_refused(backend: XGrammarBackend, source: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        backend.compile("structural_tag", source)
    assert caught.value.param == "structural_tag"


@pytest.mark.parametrize("source", ["", "root ::= ", 'foo ::= "a"', "root ::= nothing", "root ::= " + "(" * 9999])
def test_bad_ebnf_is_refused(backend: XGrammarBackend, source: str) -> None:
    with pytest.raises(RequestError, match="ebnf does not compile") as caught:
        backend.compile("ebnf", source)
    assert "/project" not in str(caught.value)


def test_a_grammar_that_matches_nothing_is_refused(backend: XGrammarBackend) -> None:
    with pytest.raises(RequestError, match="ebnf matches no text at all"):
        backend.compile("ebnf", "root ::= root")


def test_a_rule_that_matches_nothing_ends_the_request_that_meets_it(
    backend: XGrammarBackend, tokenizer: Tokenizer
) -> None:
    matcher = backend.compile("ebnf", 'root ::= "a" dead\ndead ::= dead').matcher()
    assert matcher.accept_token(tokenizer.encode("a")[0])
    with pytest.raises(RequestError, match="allows no token here"):
        random_output(backend.env, matcher, Random(0), hurry_after=0)


def test_any_object_is_an_object(backend: XGrammarBackend, tokenizer: Tokenizer) -> None:
    compiled = backend.compile("json_schema", '{"type": "object"}')
    assert accepts(compiled.matcher(), tokenizer, '{"any": ["thing", {"x": null}], "y": 1.5e3}')
    assert not accepts(compiled.matcher(), tokenizer, "[1]")
    for seed in range(10):
        ids = random_output(backend.env, compiled.matcher(), Random(seed), hurry_after=20)
        assert isinstance(json.loads(spell(tokenizer, ids).decode(errors="replace")), dict)


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        ({"minLength": 2}, ["ab", "漢字x"], ["a", ""]),
        ({"maxLength": 2}, ["", "é"], ["abc"]),
        ({"minLength": 1, "maxLength": 1}, ["a"], ["", "ab", "\x0b"]),
    ],
)
def test_lengths_count_characters_and_keep_the_document_valid(
    backend: XGrammarBackend, tokenizer: Tokenizer, limits: dict[str, int], good: list[str], bad: list[str]
) -> None:
    compiled = backend.compile("json_schema", json.dumps({"type": "string", **limits}))
    assert [text for text in good + bad if accepts(compiled.matcher(), tokenizer, f'"{text}"')] == good


@pytest.mark.parametrize("limits", [{"minLength": -1}, {"maxLength": "x"}, {"minLength": 3, "maxLength": 2}])
def test_impossible_lengths_are_refused(backend: XGrammarBackend, limits: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="json_schema does not compile with xgrammar: minLength"):
        backend.compile("json_schema", json.dumps({"type": "string", **limits}))


def test_white_space_is_limited(tokenizer: Tokenizer) -> None:
    backend = XGrammarBackend(environment(tokenizer, options=GrammarOptions(max_whitespace=3)))
    compiled = backend.compile("json_schema", '{"type": "array", "items": {"type": "integer"}}')
    assert accepts(compiled.matcher(), tokenizer, "[   1]")
    assert not accepts(compiled.matcher(), tokenizer, "[    1]")


def test_a_larger_grammar_counts_for_more_memory(backend: XGrammarBackend) -> None:
    small = backend.compile("regex", "a")
    large = backend.compile("json_schema", json.dumps({"enum": [str(index) for index in range(500)]}))
    assert large.num_bytes > 10 * small.num_bytes > 0
