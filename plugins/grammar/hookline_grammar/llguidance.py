"""LLGuidanceBackend: an Earley parser over derivatives of regular expressions, by the llguidance library.

Its grammars are lazy: nothing is computed ahead of the masks. Each step has a limit within the library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import llguidance
from llguidance.gbnf_to_lark import any_to_lark

from hookline.errors import RequestError
from hookline.interfaces.grammar import (
    CompiledGrammar,
    GrammarBackend,
    GrammarEnv,
    UnsupportedGrammarError,
)
from hookline_grammar.choices import as_rule, parse_choices
from hookline_grammar.lark_tags import LarkTags
from hookline_grammar.llguidance_matcher import LLGuidanceBatcher, LLGuidanceMatcher, first_line
from hookline_grammar.options import GrammarOptions
from hookline_grammar.regexes import check_regex, refuse_regex
from hookline_grammar.schema_check import SchemaCheck, parse_json
from hookline_grammar.special_tokens import SpecialTokens
from hookline_grammar.tags import renewed, triggered_tags
from hookline_grammar.vocabulary import spellings

SCHEMAS = SchemaCheck(backend="llguidance", is_complete=True)
#: A step takes some 20 ms at most; the library counts what it does.
_LIMITS: dict[str, Any] = {
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_items_in_row": 2_000,
    "max_lexer_states": 100_000,
    "max_grammar_size": 500_000,
    "verbose_errors": False,
}
#: Forced text may be written in any tokens: the library would allow the tokenizer's own only.
_HEAD = '%llguidance {"no_forcing": true}\n'
_EMPTY_ROOT = re.compile(r'^start:\s*""\s*$', re.MULTILINE)
#: Stands for a special token while the library's parser reads a grammar.
_TOKEN_RULE = "special_token_"
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
_WHITESPACE = r"[ \t\n\r]"


class LLGuidanceBackend(GrammarBackend):
    """JSON schema, regex, EBNF (GBNF, or Lark), choices, and structural tags behind triggers."""

    def __init__(self, env: GrammarEnv) -> None:
        super().__init__(env)
        self._options = env.options or GrammarOptions()
        self._special = SpecialTokens(env)
        tokens = _Tokens(spellings(env), self._special.ids)
        # The library wants an end token of its own; ours are added where it may follow.
        self._tokenizer = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(tokens), n_vocab=env.vocab_size + 1, eos_token=[env.vocab_size]
        )
        self._limits = llguidance.LLParserLimits(**_LIMITS)
        self._batcher = LLGuidanceBatcher(env.vocab_size)
        self._grammar_of: dict[str, Callable[[str], str]] = {
            "json_schema": self._of_schema,
            "json_object": self._of_schema,
            "regex": self._of_regex,
            "ebnf": self._of_ebnf,
            "choice": self._of_choice,
            "structural_tag": self._of_tag,
        }

    def compile(self, kind: str, source: str) -> LLGuidanceCompiled:
        if kind not in self._grammar_of:
            known = ", ".join(self._grammar_of)
            raise RequestError(f"llguidance does not compile {kind} (known: {known})", param=kind)
        grammar = self._grammar_of[kind](source)
        matcher = self._matcher(grammar)
        if matcher.is_error():
            reason = first_line(matcher.get_error())
            if kind == "regex":
                refuse_regex("llguidance", source, reason)
            error = UnsupportedGrammarError if kind == "json_schema" else RequestError
            raise error(f"{kind} does not compile with llguidance: {reason}", param=kind)
        compiled = LLGuidanceCompiled(grammar, matcher, self.env, self._batcher)
        if not compiled.has_beginning():
            raise RequestError(f"{kind} matches no text at all", param=kind)
        return compiled

    def unpack(self, kind: str, source: str, packed: bytes) -> LLGuidanceCompiled:
        grammar = packed.decode()
        return LLGuidanceCompiled(grammar, self._matcher(grammar), self.env, self._batcher)

    def _matcher(self, grammar: str) -> llguidance.LLMatcher:
        return llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=self._limits)

    def _of_schema(self, source: str) -> str:
        schema = parse_json(source, "json_schema")
        _mend(SCHEMAS.check(schema))
        return f"{_HEAD}start: %json {self._with_options(schema)}\n"

    def _with_options(self, schema: dict[str, Any] | bool) -> str:
        """The schema with the library's own options, whatever it says of them itself."""
        # oneOf: the check has seen that its branches exclude each other.
        options: dict[str, Any] = {"coerce_one_of": True, "lenient": False}
        most = self._options.max_whitespace
        if self._options.any_whitespace:
            options["whitespace_pattern"] = _WHITESPACE + ("+" if most is None else f"{{1,{most}}}")
        else:
            options["whitespace_flexible"] = False
        return json.dumps({**_as_object(schema), "x-guidance": options})

    def _of_regex(self, source: str) -> str:
        check_regex(source)
        return f"{_HEAD}start: /{llguidance.regex_to_lark(source, use_ascii='')}/\n"

    def _of_ebnf(self, source: str) -> str:
        named: dict[str, int] = {}

        def name(index: int) -> str:
            named[f"{_TOKEN_RULE}{index}"] = index
            return f" {_TOKEN_RULE}{index} "

        source = self._special.name_in_ebnf(source, name)
        # The library's parser wants every rule to be there, and makes lexemes of those that do not recur.
        rules = "".join(f'\n{rule} ::= "a" | "b" {rule}' for rule in named)
        try:
            lark = any_to_lark(source + rules)
        except Exception as exc:
            # A parser of the library's own, in Python, that raises whatever it meets.
            raise RequestError(f"ebnf does not compile with llguidance: {exc!s:.500}", param="ebnf") from exc
        if _EMPTY_ROOT.search(lark):
            # What is missing would otherwise stand for the empty text.
            raise RequestError("ebnf does not compile with llguidance: the root rule has no right side", param="ebnf")
        for rule, index in named.items():
            lark = re.sub(rf"^{rule}:.*(?:\n\s+\|.*)*$", f"{rule}: <[{index}]>", lark, flags=re.MULTILINE)
        return _HEAD + lark.removeprefix("%llguidance {}\n")

    def _of_choice(self, source: str) -> str:
        return f"{_HEAD}start: {as_rule(parse_choices(source))}\n"

    def _of_tag(self, source: str) -> str:
        parsed = renewed(parse_json(source, "structural_tag"))
        form = parsed.get("format") if isinstance(parsed, dict) else None
        if isinstance(form, dict) and form.get("type", "triggered_tags") != "triggered_tags":
            return _HEAD + LarkTags(self._special, self._tagged_schema, self._tagged_pattern).write(form)
        return self._of_triggered(parsed)

    def _tagged_schema(self, schema: Any) -> str:
        _mend(SCHEMAS.check(schema, "structural_tag"))
        return self._with_options(schema)

    def _tagged_pattern(self, pattern: str) -> str:
        check_regex(pattern)
        return str(llguidance.regex_to_lark(pattern, use_ascii=""))

    def _of_triggered(self, source: object) -> str:
        tags = triggered_tags(source, "llguidance")
        for tag in tags:
            _mend(SCHEMAS.check(tag.schema, "structural_tag"))
            if any(isinstance(part, int) for part in self._special.split(tag.begin + tag.end)):
                raise UnsupportedGrammarError(
                    "structural_tag: triggered_tags with special tokens are not known to the grammar backend "
                    "'llguidance'",
                    param="structural_tag",
                )
        lark: str = llguidance.StructTag.to_grammar(
            [
                llguidance.StructTag(
                    trigger=tag.trigger,
                    begin=tag.begin,
                    grammar=self._with_options(tag.schema),
                    end=tag.end,
                )
                for tag in tags
            ],
            assume_special=False,
        )
        return _HEAD + lark.removeprefix("%llguidance {}\n")


class LLGuidanceCompiled(CompiledGrammar):
    """A grammar, and a matcher at its beginning of which the others are copies."""

    def __init__(
        self, grammar: str, matcher: llguidance.LLMatcher, env: GrammarEnv, batcher: LLGuidanceBatcher
    ) -> None:
        self._grammar = grammar
        self._batcher = batcher
        self._matcher = matcher
        self._vocab_size = env.vocab_size
        self._ends = frozenset(end for end in env.end_token_ids if end < env.vocab_size)

    def matcher(self) -> LLGuidanceMatcher:
        return LLGuidanceMatcher(self._matcher.deep_copy(), self._vocab_size, self._ends, self._batcher)

    @property
    def num_bytes(self) -> int:
        # The library does not tell; its lexer grows while masks are made.
        return 64 * 1024 + 64 * len(self._grammar)

    def pack(self) -> bytes:
        return self._grammar.encode()

    def has_beginning(self) -> bool:
        """Whether any output but the empty one follows the grammar."""
        return not self._matcher.is_stopped() and self.matcher().allows_any()


class _Tokens:
    """The vocabulary as the library reads it."""

    def __init__(self, tokens: list[bytes], special: Mapping[str, int]) -> None:
        self.tokens = [*tokens, b""]
        for text, index in special.items():
            # The library marks them itself.
            self.tokens[index] = text.encode()
        self.eos_token_id = len(tokens)
        self.bos_token_id = None
        self.special_token_ids = [*special.values(), self.eos_token_id]
        self._ids = {spelled: index for index, spelled in enumerate(tokens) if len(spelled) == 1}

    def __call__(self, text: bytes | str) -> list[int]:
        """Tokens for a text that the grammar forces; nothing here relies on which."""
        spelled = text if isinstance(text, bytes) else text.encode()
        return [self._ids[bytes([byte])] for byte in spelled if bytes([byte]) in self._ids]


def _mend(schemas: list[dict[str, Any]]) -> None:
    """Leave out what says nothing, and what the library would refuse all the same."""
    for schema in schemas:
        schema.pop("uniqueItems", None)
        if schema.get("format") not in _FORMATS:
            schema.pop("format", None)
        _check_count(schema)


def _check_count(schema: dict[str, Any]) -> None:
    """The library counts a name twice that comes twice, which undeclared ones may."""
    fewest, required = schema.get("minProperties"), schema.get("required")
    if not isinstance(fewest, int) or fewest <= max(1, len(required) if isinstance(required, list) else 0):
        return
    if schema.get("additionalProperties") is not False or "patternProperties" in schema:
        raise UnsupportedGrammarError(
            "json_schema: the grammar backend 'llguidance' enforces 'minProperties' only where "
            "'additionalProperties' is false; require the properties instead",
            param="json_schema",
            code="unsupported_schema",
        )


def _as_object(schema: dict[str, Any] | bool) -> dict[str, Any]:
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    return schema
