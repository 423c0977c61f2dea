"""XGrammarBackend: grammars as pushdown automata, by the xgrammar library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xgrammar

from hookline.errors import RequestError
from hookline.interfaces.grammar import CompiledGrammar, GrammarBackend, GrammarEnv, GrammarMatcher
from hookline_grammar.options import GrammarOptions
from hookline_grammar.schema_check import SchemaCheck, parse_json
from hookline_grammar.vocabulary import spellings

SCHEMAS = SchemaCheck(
    backend="xgrammar",
    exclusive=(
        (frozenset({"minLength", "maxLength"}), frozenset({"pattern", "format"})),
        (frozenset({"pattern"}), frozenset({"format"})),
        (
            frozenset({"multipleOf"}),
            frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
        ),
        (frozenset({"propertyNames"}), frozenset({"properties", "patternProperties", "additionalProperties"})),
        (frozenset({"minProperties"}), frozenset({"propertyNames", "patternProperties", "additionalProperties"})),
    ),
    ignored_formats=frozenset({"json-pointer", "relative-json-pointer"}),
    filters_patterns=True,
)
#: What its messages begin with: a time and the place in its sources.
_LOG_PREFIX = re.compile(r"\[\d\d:\d\d:\d\d\] \S+\.(?:cc|h):\d+: (?:Check failed: \(.*?\) is false: )?")


class XGrammarBackend(GrammarBackend):
    """JSON schema, regex, EBNF (rule ``root``) and structural tags, old and new."""

    def __init__(self, env: GrammarEnv) -> None:
        super().__init__(env)
        self._options = env.options or GrammarOptions()
        self._ends = [index for index in env.end_token_ids if index < env.vocab_size]
        info = xgrammar.TokenizerInfo(
            spellings(env), xgrammar.VocabType.RAW, vocab_size=env.vocab_size, stop_token_ids=self._ends
        )
        # The caller keeps compiled grammars, and runs several compilations side by side.
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._compile: dict[str, Callable[[str], xgrammar.CompiledGrammar]] = {
            "json_schema": self._compile_json_schema,
            "regex": self._compiler.compile_regex,
            "ebnf": self._compiler.compile_grammar,
            "structural_tag": self._compile_structural_tag,
        }

    def compile(self, kind: str, source: str) -> XGrammarCompiled:
        if kind not in self._compile:
            known = ", ".join(self._compile)
            raise RequestError(f"xgrammar does not compile {kind} (known: {known})", param=kind)
        try:
            compiled = self._compile[kind](source)
        except (RuntimeError, ValueError, TypeError, UnicodeError) as exc:
            if isinstance(exc, RequestError):
                raise
            reason = _LOG_PREFIX.sub("", str(exc)).strip()
            raise RequestError(f"{kind} does not compile: {reason:.500}", param=kind) from exc
        grammar = XGrammarCompiled(compiled, self.env.vocab_size, has_ends=bool(self._ends))
        if not grammar.has_beginning():
            raise RequestError(f"{kind} matches no text at all", param=kind)
        return grammar

    def _compile_json_schema(self, source: str) -> xgrammar.CompiledGrammar:
        schema = parse_json(source, "json_schema")
        _mend_lengths(SCHEMAS.check(schema))
        return self._compiler.compile_json_schema(
            json.dumps(schema),
            any_whitespace=self._options.any_whitespace,
            max_whitespace_cnt=self._options.max_whitespace if self._options.any_whitespace else None,
        )

    def _compile_structural_tag(self, source: str) -> xgrammar.CompiledGrammar:
        tag = parse_json(source, "structural_tag")
        if isinstance(tag, dict) and "structures" in tag:
            tag = _renewed(tag)
        for schema in _schemas(tag):
            _mend_lengths(SCHEMAS.check(schema, "structural_tag"))
        return self._compiler.compile_structural_tag(json.dumps(tag))


class XGrammarCompiled(CompiledGrammar):
    """A grammar compiled for one vocabulary."""

    def __init__(self, compiled: xgrammar.CompiledGrammar, vocab_size: int, *, has_ends: bool) -> None:
        self._compiled = compiled
        self._vocab_size = vocab_size
        self._has_ends = has_ends

    def matcher(self) -> XGrammarMatcher:
        # Without an end token the complete grammar itself is the end.
        matcher = xgrammar.GrammarMatcher(self._compiled, terminate_without_stop_token=not self._has_ends)
        return XGrammarMatcher(matcher, self._vocab_size)

    @property
    def num_bytes(self) -> int:
        return int(self._compiled.memory_size_bytes)

    def has_beginning(self) -> bool:
        """Whether any output at all follows the grammar."""
        matcher = self.matcher()
        return matcher.is_terminated or matcher.allows_any()


class XGrammarMatcher(GrammarMatcher):
    """One output under a grammar."""

    def __init__(self, matcher: xgrammar.GrammarMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._num_words = -(-vocab_size // 32)
        #: Bits of the last word that are tokens.
        self._last_word = np.int32(-1 if vocab_size % 32 == 0 else (1 << vocab_size % 32) - 1)

    def accept_token(self, token_id: int) -> bool:
        if self.is_terminated or not 0 <= token_id < self._vocab_size:
            return False
        return bool(self._matcher.accept_token(token_id))

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        if not self._fill(bitmask_BW, row):
            raise RequestError(
                "the grammar allows no token here: it has a rule that matches no text", code="grammar_dead_end"
            )

    def rollback(self, num_tokens: int) -> None:
        self._matcher.rollback(num_tokens)

    @property
    def is_terminated(self) -> bool:
        return bool(self._matcher.is_terminated())

    def allows_any(self) -> bool:
        """Whether some token may come next."""
        return self._fill(np.zeros((1, self._num_words), dtype=np.int32), 0)

    def _fill(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> bool:
        mask_W = bitmask_BW[row]
        mask_W[:] = 0
        if self.is_terminated:
            for end in self._matcher.stop_token_ids:
                mask_W[end // 32] |= np.uint32(1 << end % 32).view(np.int32)
        else:
            self._matcher.fill_next_token_bitmask(bitmask_BW, row)
            # The library also sets what is beyond the vocabulary.
            mask_W[-1] &= self._last_word
        return bool(mask_W.any())


def _mend_lengths(schemas: Iterable[dict[str, Any]]) -> None:
    """Write minLength and maxLength as patterns: the library's own grammar for them lets control characters
    through, which JSON must escape."""
    for schema in schemas:
        shortest, longest = schema.pop("minLength", None), schema.pop("maxLength", None)
        if shortest is None and longest is None:
            continue
        for length in (shortest, longest):
            if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 0):
                raise ValueError(f"minLength and maxLength must be integers from 0, not {length!r:.40}")
        if longest is not None and (shortest or 0) > longest:
            raise ValueError(f"minLength ({shortest}) is larger than maxLength ({longest})")
        limits = f"{{{shortest or 0},{'' if longest is None else longest}}}"
        schema["pattern"] = r'^[^"\\\x00-\x1f]' + limits + "$"


def _renewed(tag: dict[str, Any]) -> dict[str, Any]:
    """A structural tag of the older form ({"structures", "triggers"}) in the present one."""
    try:
        tags = [
            {
                "type": "tag",
                "begin": item["begin"],
                "content": {"type": "json_schema", "json_schema": item.get("schema", {})},
                "end": item["end"],
            }
            for item in tag["structures"]
        ]
        triggers = tag["triggers"]
    except (KeyError, TypeError, AttributeError) as exc:
        raise RequestError(
            "structural_tag with 'structures' needs 'triggers' too, and in each structure 'begin' and 'end'",
            param="structural_tag",
        ) from exc
    return {"type": "structural_tag", "format": {"type": "triggered_tags", "triggers": triggers, "tags": tags}}


def _schemas(tag: object) -> Iterator[object]:
    """The JSON schemas in a structural tag."""
    pending = [tag]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "json_schema" in node:
                yield node["json_schema"]
            pending.extend(value for key, value in node.items() if key != "json_schema")
        elif isinstance(node, list):
            pending.extend(node)
