"""LLGuidanceBackend: an Earley parser over derivatives of regular expressions, by the llguidance library.

Its grammars are lazy: nothing is computed ahead of the masks. Each step has a limit within the library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import llguidance
import numpy as np
import numpy.typing as npt
from llguidance.gbnf_to_lark import any_to_lark

from hookline.errors import RequestError
from hookline.interfaces.grammar import (
    CompiledGrammar,
    GrammarBackend,
    GrammarEnv,
    GrammarMatcher,
    UnsupportedGrammarError,
)
from hookline_grammar.choices import as_rule, parse_choices
from hookline_grammar.lark_tags import LarkTags
from hookline_grammar.options import GrammarOptions
from hookline_grammar.regexes import check_regex, refuse_regex
from hookline_grammar.schema_check import SchemaCheck, parse_json
from hookline_grammar.special_tokens import SpecialTokens
from hookline_grammar.tags import renewed, triggered_tags
from hookline_grammar.vocabulary import SPECIAL_MARK, spellings

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
            reason = _first_line(matcher.get_error())
            if kind == "regex":
                refuse_regex("llguidance", source, reason)
            error = UnsupportedGrammarError if kind == "json_schema" else RequestError
            raise error(f"{kind} does not compile with llguidance: {reason}", param=kind)
        compiled = LLGuidanceCompiled(grammar, matcher, self.env)
        if not compiled.has_beginning():
            raise RequestError(f"{kind} matches no text at all", param=kind)
        return compiled

    def unpack(self, kind: str, source: str, packed: bytes) -> LLGuidanceCompiled:
        grammar = packed.decode()
        return LLGuidanceCompiled(grammar, self._matcher(grammar), self.env)

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

    def __init__(self, grammar: str, matcher: llguidance.LLMatcher, env: GrammarEnv) -> None:
        self._grammar = grammar
        self._matcher = matcher
        self._vocab_size = env.vocab_size
        self._ends = frozenset(end for end in env.end_token_ids if end < env.vocab_size)

    def matcher(self) -> LLGuidanceMatcher:
        return LLGuidanceMatcher(self._matcher.deep_copy(), self._vocab_size, self._ends)

    @property
    def num_bytes(self) -> int:
        # The library does not tell; its lexer grows while masks are made.
        return 64 * 1024 + 64 * len(self._grammar)

    def pack(self) -> bytes:
        return self._grammar.encode()

    def has_beginning(self) -> bool:
        """Whether any output but the empty one follows the grammar."""
        return not self._matcher.is_stopped() and self.matcher().allows_any()


class LLGuidanceMatcher(GrammarMatcher):
    """One output under a grammar."""

    def __init__(self, matcher: llguidance.LLMatcher, vocab_size: int, ends: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._ends = ends
        self._num_words = -(-vocab_size // 32)
        self._num_accepted = 0
        self._has_ended = False

    def accept_token(self, token_id: int) -> bool:
        if self.is_terminated or not 0 <= token_id < self._vocab_size:
            return False
        if token_id in self._ends:
            self._has_ended = self._matcher.is_accepting()
            return self._has_ended
        accepted = self._matcher.try_consume_tokens([token_id]) == 1
        self._check()
        self._num_accepted += accepted
        return accepted

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        if not self._fill(bitmask_BW[row]):
            raise RequestError("the grammar allows no token here", code="grammar_dead_end")

    def rollback(self, num_tokens: int) -> None:
        accepted = self._num_accepted + self._has_ended
        if not 0 <= num_tokens <= accepted:
            raise ValueError(f"{accepted} tokens were accepted; {num_tokens} cannot be undone")
        if num_tokens and self._has_ended:
            self._has_ended = False
            num_tokens -= 1
        if num_tokens:
            self._matcher.rollback(num_tokens)
            self._check()
            self._num_accepted -= num_tokens

    def forced_text(self) -> bytes:
        if self._has_ended or self._matcher.is_stopped():
            return b""
        # A special token comes as a mark that is no text, and what follows it as if it were there.
        text, _, _ = bytes(self._matcher.compute_ff_bytes()).partition(SPECIAL_MARK)
        self._check()
        return text

    @property
    def is_terminated(self) -> bool:
        # Without an end token an output ends where nothing can follow.
        return self._has_ended or (not self._ends and self._matcher.is_stopped())

    def allows_any(self) -> bool:
        """Whether some token may come next."""
        return self.is_terminated or self._fill(np.zeros(self._num_words, dtype=np.int32))

    def _fill(self, mask_W: npt.NDArray[np.int32]) -> bool:
        mask_W[:] = 0
        if not self._has_ended and not self._matcher.is_stopped():
            words = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.int32)
            self._check()
            mask_W[:] = words[: self._num_words]
            # The library's own end token may be in the last word.
            if self._vocab_size % 32:
                mask_W[-1] &= np.int32((1 << self._vocab_size % 32) - 1)
        if self._has_ended or self._matcher.is_accepting():
            for end in self._ends:
                mask_W[end // 32] |= np.uint32(1 << end % 32).view(np.int32)
        return bool(mask_W.any())

    def _check(self) -> None:
        """The library never leaves a state of error: that of a limit, as a rule."""
        if self._matcher.is_error():
            raise RequestError(
                f"the grammar is too complex to follow here: {_first_line(self._matcher.get_error())}",
                code="grammar_too_complex",
            )


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


def _first_line(text: str) -> str:
    """What the library says, without the quotations of the grammar below."""
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    said = [line for line in lines if line and not line.startswith(("^", "|"))]
    errors = [line for line in said if line.startswith("error:")]
    return (errors or said or ["no reason given"])[0][:300]
