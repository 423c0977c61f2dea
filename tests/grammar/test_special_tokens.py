"""Special tokens in grammars: producible where a grammar names them, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tokenizers

from hookline.errors import RequestError
from hookline.interfaces.grammar import CompiledGrammar, GrammarBackend, UnsupportedGrammarError
from hookline.testkit.grammar_walks import allowed, environment, random_output
from hookline.testkit.tokenizers import byte_level_bpe
from hookline.text.tokenizer import Tokenizer, load_tokenizer
from hookline_grammar.llguidance import LLGuidanceBackend
from hookline_grammar.outlines import OutlinesBackend
from hookline_grammar.xgrammar import XGrammarBackend

MARKERS = ["<|call|>", "<|sep|>", "<|done|>", "｜DSML｜"]
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}
DOCUMENT: dict[str, Any] = {"type": "json_schema", "json_schema": SCHEMA}
ANY: dict[str, Any] = {"type": "any_text"}


def const(text: str) -> dict[str, Any]:
    return {"type": "const_string", "value": text}


def tag(begin: Any, content: dict[str, Any], end: Any) -> dict[str, Any]:
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def sequence(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "sequence", "elements": list(elements)}


def structural(form: dict[str, Any]) -> str:
    return json.dumps({"type": "structural_tag", "format": form})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = byte_level_bpe(Path(tmp_path_factory.mktemp("markers")))
    file = str(directory / "tokenizer.json")
    plain = tokenizers.Tokenizer.from_file(file)
    plain.add_special_tokens(MARKERS)
    plain.save(file)
    return load_tokenizer(directory)


@pytest.fixture(scope="module", params=[XGrammarBackend, LLGuidanceBackend], ids=["xgrammar", "llguidance"])
def backend(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> GrammarBackend:
    made: GrammarBackend = request.param(environment(tokenizer))
    return made


@pytest.fixture(scope="module")
def xgrammar(tokenizer: Tokenizer) -> XGrammarBackend:
    return XGrammarBackend(environment(tokenizer))


def travelled(backend: GrammarBackend, kind: str, source: str) -> CompiledGrammar:
    """A grammar as the scheduler gets it from another process."""
    return backend.unpack(kind, source, backend.compile(kind, source).pack())


def follows(backend: GrammarBackend, kind: str, source: str, ids: Sequence[int]) -> bool:
    """Whether tokens and the end of the output are taken, by masks and by the matcher alike."""
    matcher = travelled(backend, kind, source).matcher()
    for token_id in [*ids, backend.env.end_token_ids[0]]:
        is_allowed = token_id in allowed(matcher, backend.env.vocab_size)
        assert matcher.accept_token(token_id) == is_allowed
        if not is_allowed:
            return False
    return matcher.is_terminated


FORMS = {
    "const": (const("a<|call|>b<|sep|>"), "a<|call|>b<|sep|>"),
    "tag": (tag("<|call|>f<|sep|>", DOCUMENT, "<|done|>"), '<|call|>f<|sep|>{"x": "y"}<|done|>'),
    "text first": (tag("to=f <|sep|>json", DOCUMENT, " <|done|>\n"), 'to=f <|sep|>json{"x": "y"} <|done|>\n'),
    "any text": (tag("<|call|>", ANY, "</<|done|>"), "<|call|>a </b </<|done|>"),
    "two parts": (
        tag("<｜DSML｜p>", ANY, "</｜DSML｜p>"),
        "<｜DSML｜p>if a < b: </p></｜DSML｜p>",
    ),
    "nested": (
        tag("<｜DSML｜i>", tag("<｜DSML｜p>", ANY, "</｜DSML｜p>"), "</｜DSML｜i>"),
        "<｜DSML｜i><｜DSML｜p>v</｜DSML｜p></｜DSML｜i>",
    ),
    "separated": (
        {
            "type": "tags_with_separator",
            "tags": [tag("<|call|>f", DOCUMENT, ""), tag("<|call|>g", DOCUMENT, "")],
            "separator": "<|sep|>\n",
            "at_least_one": True,
        },
        '<|call|>f{"x": "y"}<|sep|>\n<|call|>g{"x": ""}',
    ),
    "token": (sequence({"type": "token", "token": "<|call|>"}, const("x")), "<|call|>x"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_marker_in_a_structural_tag_is_one_token(backend: GrammarBackend, tokenizer: Tokenizer, name: str) -> None:
    form, text = FORMS[name]
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert set(ids) & tokenizer.special_ids, "the tokenizer reads the markers as tokens"
    assert follows(backend, "structural_tag", structural(form), ids)


@pytest.mark.parametrize("name", [name for name, (form, _) in FORMS.items() if "any_text" not in str(form)])
@pytest.mark.parametrize("seed", range(3))
def test_random_outputs_hold_the_named_markers_alone(
    backend: GrammarBackend, tokenizer: Tokenizer, name: str, seed: int
) -> None:
    form, text = FORMS[name]
    named = set(tokenizer.encode(text, add_special_tokens=False)) & tokenizer.special_ids
    matcher = travelled(backend, "structural_tag", structural(form)).matcher()
    ids = random_output(backend.env, matcher, Random(seed), hurry_after=15)
    assert named >= set(ids[:-1]) & tokenizer.special_ids
    # Markers stand where they were written: none is inside a text or a document.
    counts = {token: text.count(tokenizer.token_text(token)) for token in named}
    if name != "separated":
        assert {token: ids.count(token) for token in named} == counts


@pytest.mark.parametrize(
    ("kind", "source", "begin"),
    [
        ("json_schema", '{"type": "string"}', '"a'),
        ("json_object", '{"type": "object"}', '{"'),
        ("regex", r"(.|\n)*", "a"),
        ("regex", r"[^a]*", ""),
        ("ebnf", r"root ::= [^a]*", ""),
        ("structural_tag", structural(tag("<p>", ANY, "</p>")), "<p>"),
        ("structural_tag", structural(tag("<|call|>", DOCUMENT, "")), '<|call|>{"x": "'),
        ("structural_tag", structural(tag("<|call|>", ANY, "<|done|>x")), "<|call|>b"),
    ],
)
def test_text_holds_no_special_token(
    backend: GrammarBackend, tokenizer: Tokenizer, kind: str, source: str, begin: str
) -> None:
    matcher = travelled(backend, kind, source).matcher()
    assert all(map(matcher.accept_token, tokenizer.encode(begin, add_special_tokens=False)))
    special = tokenizer.special_ids - set(backend.env.end_token_ids)
    last = {tokenizer.token_id("<|done|>")} if "<|done|>" in source else set()
    assert set(allowed(matcher, backend.env.vocab_size)) & special == last
    for token_id in special - last:
        assert not matcher.accept_token(token_id)


def test_ebnf_names_tokens(backend: GrammarBackend, tokenizer: Tokenizer) -> None:
    source = 'root ::= head [a-z]+ Token("<|sep|>")?\nhead ::= Token("<|call|>") "Token(\\"<|sep|>\\")"'
    ids = tokenizer.encode('<|call|>Token("', add_special_tokens=False)
    ids += [token for letter in "<|sep|>" for token in tokenizer.encode(letter, add_special_tokens=False)]
    ids += tokenizer.encode('")abc<|sep|>', add_special_tokens=False)
    assert follows(backend, "ebnf", source, ids)
    assert not follows(backend, "ebnf", source, ids[1:])
    assert allowed(travelled(backend, "ebnf", source).matcher(), backend.env.vocab_size) == ids[:1]


@pytest.mark.parametrize("name", ["<|nothing|>", "<|im_end|>"])
def test_a_token_that_is_none_or_ends_the_output_is_refused(backend: GrammarBackend, name: str) -> None:
    for kind, source in (
        ("ebnf", f'root ::= Token("{name}")'),
        ("structural_tag", structural({"type": "token", "token": name})),
    ):
        with pytest.raises(RequestError, match=r"has no token|ends the output") as caught:
            backend.compile(kind, source)
        assert caught.value.param == kind


TRIGGERED = {
    "type": "triggered_tags",
    "triggers": ["<|call|>", "<f="],
    "tags": [tag("<|call|>f<|sep|>", DOCUMENT, "<|done|>"), tag("<f=g>", DOCUMENT, "</f>")],
}


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ("plain text", True),
        ('a <|call|>f<|sep|>{"x": ""}<|done|> b <f=g>{"x": ""}</f> c', True),
        ("<|done|> anywhere <|sep|>", True),
        ("<|call|>g", False),
        ("<|call|>f{", False),
        ("<f=g>{<|sep|>", False),
    ],
)
def test_a_special_token_triggers_a_tag(
    xgrammar: XGrammarBackend, tokenizer: Tokenizer, text: str, is_taken: bool
) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert follows(xgrammar, "structural_tag", structural(TRIGGERED), ids) == is_taken


def test_text_around_tags_may_hold_special_tokens(xgrammar: XGrammarBackend, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode('<|sep|>a<|call|>{"x": ""}', add_special_tokens=False)
    assert follows(xgrammar, "structural_tag", structural(sequence(ANY, const("<|call|>"), DOCUMENT)), ids)


@pytest.mark.parametrize("end", ["</p>", "</<|done|>", ["<|done|>x", "<|sep|>"]])
def test_bare_text_ends_at_its_first_end(xgrammar: XGrammarBackend, tokenizer: Tokenizer, end: Any) -> None:
    source = structural(sequence(tag("<p>", ANY, end), const("!")))
    for each in [end] if isinstance(end, str) else end:
        for text, is_taken in (("<p>a < b</p", False), (f"<p>a{each}!", True), (f"<p>a{each}b{each}!", False)):
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert follows(xgrammar, "structural_tag", source, ids) == is_taken, text


def test_what_a_backend_cannot_name_is_left_to_another(tokenizer: Tokenizer) -> None:
    with pytest.raises(UnsupportedGrammarError):
        LLGuidanceBackend(environment(tokenizer)).compile("structural_tag", structural(TRIGGERED))
    with pytest.raises(RequestError, match="outlines does not compile structural_tag"):
        OutlinesBackend(environment(tokenizer)).compile("structural_tag", structural(TRIGGERED))
