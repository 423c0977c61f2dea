"""Table of contents of hookline-grammar: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.grammar import GrammarBackendSpec
from hookline.interfaces.spec import PluginInfo, Requirements
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="grammar",
    provides=("grammar_backends",),
    config_model="hookline_grammar.options:GrammarOptions",
    summary="constrained output",
)


@hookimpl
def hookline_grammar_backends() -> list[GrammarBackendSpec]:
    return [
        GrammarBackendSpec(
            name="xgrammar",
            target="hookline_grammar.xgrammar:XGrammarBackend",
            kinds=frozenset({"json_schema", "json_object", "regex", "ebnf", "choice", "structural_tag"}),
            requires=Requirements(packages=("xgrammar>=0.2",)),
            features=frozenset({"rollback", "tag_formats"}),
            priority=10,
            summary="pushdown automata: JSON schema, regex, EBNF, choices and structural tags",
        ),
        GrammarBackendSpec(
            name="llguidance",
            target="hookline_grammar.llguidance:LLGuidanceBackend",
            kinds=frozenset({"json_schema", "json_object", "regex", "ebnf", "choice", "structural_tag"}),
            quick_kinds=frozenset({"json_schema", "json_object", "regex", "choice"}),
            requires=Requirements(packages=("llguidance>=1.9",)),
            features=frozenset({"rollback", "tag_formats"}),
            priority=5,
            summary="a parser without compilation: JSON schema with more keywords, regex, EBNF, choices, simple tags",
        ),
        GrammarBackendSpec(
            name="outlines",
            target="hookline_grammar.outlines:OutlinesBackend",
            kinds=frozenset({"json_schema", "regex", "choice"}),
            requires=Requirements(packages=("outlines-core>=0.2.14",)),
            features=frozenset({"rollback"}),
            summary="finite automata: JSON schema without deep recursion, regex, choices",
        ),
    ]
