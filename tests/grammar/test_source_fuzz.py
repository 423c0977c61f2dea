"""Sources drawn at random: each is a grammar that can be followed, or that request's error of status 400."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hookline.errors import RequestError
from hookline.scheduler.grammar_makers import HostedMaker
from hookline.scheduler.grammar_steps import BoundedMatcher

_WORDS = st.sampled_from(["a", "b", "é", "漢", '"', "\\", "<|im_start|>", "<tool>", "", " ", "\n", "\ud800"])
_NUMBERS = st.sampled_from([-1, 0, 1, 2, 7, 1.5, 10**6, 2**70])
_TYPES = st.sampled_from(["string", "integer", "number", "object", "array", "boolean", "null", "text", 5, None])
_REFS = st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/$defs/none", "http://x", ""])

_ANYTHING = st.recursive(st.none() | st.booleans() | _NUMBERS | _WORDS, lambda inner: st.lists(inner, max_size=3))
_KEYWORDS = {
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _NUMBERS),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "multipleOf"), _NUMBERS),
    "type": _TYPES | st.lists(_TYPES, max_size=3),
    "enum": st.lists(_ANYTHING, max_size=3),
    "const": _ANYTHING,
    "pattern": st.text("ab.*+?|()[]{}^$\\d1,", max_size=8),
    "format": st.sampled_from(["date", "email", "uuid", "nothing"]),
    "required": st.lists(_WORDS, max_size=2),
    "$ref": _REFS,
    "uniqueItems": st.booleans(),
}


def _schema_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    nested = {
        **dict.fromkeys(("items", "additionalProperties", "not", "propertyNames", "contains"), inner),
        **dict.fromkeys(("properties", "$defs", "patternProperties"), st.dictionaries(_WORDS, inner, max_size=3)),
        **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), st.lists(inner, max_size=3)),
    }
    # Most keywords are left out, or nothing would compile.
    return st.fixed_dictionaries({}, optional={**_KEYWORDS, **nested}).flatmap(
        lambda schema: st.lists(st.sampled_from(sorted(schema) or [""]), max_size=3).map(
            lambda keys: {key: schema[key] for key in keys if key in schema}
        )
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(st.booleans() | st.just({}), _schema_of, max_leaves=8)
REGEXES = st.text("ab01.*+?|()[]{},^$\\dwsS-é漢\n", max_size=24)
_EBNF_PARTS = [
    *("root", "a", "b", "::=", "|", "(", ")", "*", "+", "?", "{1,3}", '"x"', '"', "[a-z]", "[^", "\n", "\nroot ::= "),
    *("\na ::= ", "\nb ::= ", '""', "#", 'Token("<|im_start|>")', "Token(3)", "Token(", "%", "{0,99999}"),
]
EBNFS = st.lists(st.sampled_from(_EBNF_PARTS), max_size=20).map(lambda parts: "root ::= " + " ".join(parts))
_LEAVES = st.one_of(
    st.fixed_dictionaries({"type": st.just("const_string"), "value": _WORDS | _ANYTHING}),
    st.fixed_dictionaries({"type": st.just("any_text")}, optional={"excludes": st.lists(_WORDS, max_size=2)}),
    st.fixed_dictionaries({"type": st.just("regex"), "pattern": REGEXES}),
    st.fixed_dictionaries({"type": st.just("json_schema"), "json_schema": SCHEMAS}),
    st.fixed_dictionaries({"type": st.just("token"), "token": _WORDS | _NUMBERS}),
)


def _form_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    tags = st.lists(
        st.fixed_dictionaries({"type": st.just("tag"), "begin": _WORDS, "content": inner, "end": _WORDS}), max_size=2
    )
    return st.one_of(
        st.fixed_dictionaries({"type": st.sampled_from(["sequence", "or"]), "elements": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"type": st.sampled_from(["optional", "star", "plus", "what"]), "content": inner}),
        st.fixed_dictionaries({"type": st.just("tag"), "begin": _WORDS, "content": inner, "end": _WORDS}),
        st.fixed_dictionaries(
            {"type": st.just("tags_with_separator"), "tags": tags, "separator": _WORDS},
            optional={"at_least_one": st.booleans(), "stop_after_first": st.booleans()},
        ),
        st.fixed_dictionaries(
            {"type": st.just("triggered_tags"), "tags": tags, "triggers": st.lists(_WORDS, max_size=2)}
        ),
    )


TAGS = st.recursive(_LEAVES, _form_of, max_leaves=6).map(lambda form: {"type": "structural_tag", "format": form})

_SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def follow(maker: HostedMaker, kind: str, source: str, vocab_size: int = 405) -> None:
    """Compile and take some steps, as the scheduler does; what goes wrong must be the request's error."""
    host, refusal = maker.host_pid, None
    try:
        matcher = BoundedMatcher(maker.make(kind, source, lambda _: None).matcher(), 1.0)
        random, mask_BW = Random(0), np.zeros((1, -(-vocab_size // 32)), dtype=np.int32)
        for _ in range(12):
            if matcher.is_terminated:
                break
            matcher.forced_text()
            matcher.fill_bitmask(mask_BW, 0)
            choices = np.flatnonzero(np.unpackbits(mask_BW.view(np.uint8), bitorder="little"))
            assert matcher.accept_token(int(random.choice(choices)))
    except RequestError as error:
        refusal = error
    assert refusal is None or (refusal.status_code == 400 and 10 < len(str(refusal)) < 2000)
    assert maker.host_pid == host, "the host has lived through it"


@_SETTINGS
@given(schema=SCHEMAS)
def test_schemas(maker: HostedMaker, schema: Any) -> None:
    follow(maker, "json_schema", json.dumps(schema))


@_SETTINGS
@given(source=REGEXES)
def test_regexes(maker: HostedMaker, source: str) -> None:
    follow(maker, "regex", source)


@_SETTINGS
@given(source=EBNFS)
def test_ebnf(maker: HostedMaker, source: str) -> None:
    follow(maker, "ebnf", source)


@_SETTINGS
@given(tag=TAGS)
def test_structural_tags(maker: HostedMaker, tag: Any) -> None:
    follow(maker, "structural_tag", json.dumps(tag))


@pytest.mark.parametrize("kind", ["json_schema", "regex", "ebnf", "choice", "structural_tag"])
@_SETTINGS
@given(source=st.text(max_size=30) | st.binary(max_size=30).map(lambda data: data.decode("latin-1")))
def test_any_text(maker: HostedMaker, kind: str, source: str) -> None:
    follow(maker, kind, source)
