"""The shipped grammar backends pass the suite that plugin authors use."""

from __future__ import annotations

from hookline.testkit.grammar import GrammarBackendSuite

#: What both have no automata for, and limits of their own.
_BEYOND = (
    ("regex", r"(a)\1"),
    ("regex", "(?=a)a"),
    ("json_schema", '{"$ref": "https://example.com/schema"}'),
    ("json_schema", '{"type": "array", "items": ' * 150 + "{}" + "}" * 150),
)


class TestXgrammar(GrammarBackendSuite):
    name = "xgrammar"
    more_bad_sources = _BEYOND


class TestLlguidance(GrammarBackendSuite):
    name = "llguidance"
    more_bad_sources = _BEYOND


class TestOutlines(GrammarBackendSuite):
    name = "outlines"
    more_bad_sources = _BEYOND
