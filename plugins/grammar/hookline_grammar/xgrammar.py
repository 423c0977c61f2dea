"""XGrammarBackend: grammars as pushdown automata, by the xgrammar library."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import xgrammar

from hookline.errors import RequestError
from hookline.interfaces.grammar import (
    CompiledGrammar,
    GrammarBackend,
    GrammarEnv,
    GrammarMatcher,
    UnsupportedGrammarError,
)
from hookline_grammar.choices import as_rule, parse_choices
from hookline_grammar.options import GrammarOptions
from hookline_grammar.regexes import check_regex, refuse_regex
from hookline_grammar.schema_check import SchemaCheck, parse_json
from hookline_grammar.special_tokens import SpecialTokens
from hookline_grammar.tags import renewed, schemas_in
from hookline_grammar.token_tags import TokenTags, has_free_text
from hookline_grammar.vocabulary import SPECIAL_MARK, spellings

SCHEMAS = SchemaCheck(
    backend="xgrammar",
    exclusive=(
        (frozenset({"minLength", "maxLength"}), frozenset({"pattern", "format"})),
        (frozenset({"pattern"}), frozenset({"format"})),
        (
            frozenset({"multipleOf"}),
            frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
        ),
        (frozenset({"patternProperties"}), frozenset({"properties"})),
        (frozenset({"propertyNames"}), frozenset({"properties", "patternProperties", "additionalProperties"})),
        (frozenset({"minProperties"}), frozenset({"propertyNames", "patternProperties", "additionalProperties"})),
    ),
    ignored_formats=frozenset({"json-pointer", "relative-json-pointer"}),
    filters_patterns=True,
)
#: To write and read a byte of a compiled grammar. Measured with 4,096 tokens: 0.26 s for a grammar that compiled in
#: 0.015 s; with 150,000 on a busy machine 5.4 s against 2.5 s, but for one with few large masks 0.4 s against 2.7 s.
_PACKING_SECONDS = 1e-7
#: What its messages begin with: a time and the place in its sources.
_LOG_PREFIX = re.compile(r"\[\d\d:\d\d:\d\d\] \S+\.(?:cc|h):\d+: (?:Check failed: \(.*?\) is false: )?")


class XGrammarBackend(GrammarBackend):
    """JSON schema, regex, EBNF (rule ``root``) and structural tags, old and new."""

    def __init__(self, env: GrammarEnv) -> None:
        super().__init__(env)
        self._options = env.options or GrammarOptions()
        self._ends = [index for index in env.end_token_ids if index < env.vocab_size]
        self._special = SpecialTokens(env)
        spelled = spellings(env, self._special.ids.values())
        self._masks = _Masks(spelled, env, self._special)
        self._info = xgrammar.TokenizerInfo(
            spelled, xgrammar.VocabType.RAW, vocab_size=env.vocab_size, stop_token_ids=self._ends
        )
        # The caller keeps compiled grammars, and runs several compilations side by side.
        self._compiler = xgrammar.GrammarCompiler(self._info, max_threads=1, cache_enabled=False)
        self._compile: dict[str, Callable[[str], xgrammar.CompiledGrammar]] = {
            "json_schema": self._compile_json_schema,
            "json_object": self._compile_json_schema,
            "regex": self._compile_regex,
            "ebnf": self._compile_ebnf,
            "choice": self._compile_choice,
            "structural_tag": self._compile_structural_tag,
        }

    def compile(self, kind: str, source: str) -> XGrammarCompiled:
        if kind not in self._compile:
            known = ", ".join(self._compile)
            raise RequestError(f"xgrammar does not compile {kind} (known: {known})", param=kind)
        started = time.thread_time()
        try:
            compiled = self._compile[kind](source)
        except (RuntimeError, ValueError, TypeError, UnicodeError) as exc:
            if isinstance(exc, RequestError):
                raise
            raise self._refusal(kind, source, _LOG_PREFIX.sub("", str(exc)).strip()) from exc
        grammar = self._made(kind, source, compiled, time.thread_time() - started)
        if not grammar.has_beginning():
            raise RequestError(f"{kind} matches no text at all", param=kind)
        return grammar

    def unpack(self, kind: str, source: str, packed: bytes) -> XGrammarCompiled:
        if not packed:
            return self.compile(kind, source)
        compiled = xgrammar.CompiledGrammar.deserialize_json(packed.decode(), self._info)
        return self._made(kind, source, compiled)

    def _made(
        self, kind: str, source: str, compiled: xgrammar.CompiledGrammar, seconds: float = 0.0
    ) -> XGrammarCompiled:
        is_free = kind == "structural_tag" and has_free_text(self._tag(source))
        return XGrammarCompiled(compiled, self._masks, seconds, has_ends=bool(self._ends), is_free=is_free)

    def _tag(self, source: str) -> object:
        return TokenTags(self._special).write(renewed(parse_json(source, "structural_tag")))

    def _refusal(self, kind: str, source: str, reason: str) -> RequestError:
        if kind == "regex":
            refuse_regex("xgrammar", source, reason)
        message = f"{kind} does not compile with xgrammar: {reason:.500}"
        # A schema has passed our own check: another backend may know what this one does not.
        error = UnsupportedGrammarError if kind == "json_schema" else RequestError
        return error(message, param=kind)

    def _compile_regex(self, source: str) -> xgrammar.CompiledGrammar:
        check_regex(source)
        return self._compiler.compile_regex(source)

    def _compile_ebnf(self, source: str) -> xgrammar.CompiledGrammar:
        return self._compiler.compile_grammar(self._special.name_in_ebnf(source, "Token({})".format))

    def _compile_choice(self, source: str) -> xgrammar.CompiledGrammar:
        return self._compiler.compile_grammar(f"root ::= {as_rule(parse_choices(source))}")

    def _compile_json_schema(self, source: str) -> xgrammar.CompiledGrammar:
        schema = parse_json(source, "json_schema")
        _mend(SCHEMAS.check(schema))
        return self._compiler.compile_json_schema(
            json.dumps(schema),
            any_whitespace=self._options.any_whitespace,
            max_whitespace_cnt=self._options.max_whitespace if self._options.any_whitespace else None,
        )

    def _compile_structural_tag(self, source: str) -> xgrammar.CompiledGrammar:
        tag = self._tag(source)
        for schema in schemas_in(tag):
            _mend(SCHEMAS.check(schema, "structural_tag"))
        return self._compiler.compile_structural_tag(json.dumps(tag))


class XGrammarCompiled(CompiledGrammar):
    """A grammar compiled for one vocabulary."""

    def __init__(
        self,
        compiled: xgrammar.CompiledGrammar,
        masks: _Masks,
        seconds: float,
        *,
        has_ends: bool,
        is_free: bool = False,
    ) -> None:
        """``seconds`` of compilation; ``is_free``: whether special tokens may stand in the text around tags."""
        self._seconds = seconds
        self._compiled = compiled
        self._masks = masks
        self._has_ends = has_ends
        self._is_free = is_free

    def matcher(self) -> XGrammarMatcher:
        # Without an end token the complete grammar itself is the end.
        matcher = xgrammar.GrammarMatcher(self._compiled, terminate_without_stop_token=not self._has_ends)
        return XGrammarMatcher(matcher, self._masks, is_free=self._is_free)

    @property
    def num_bytes(self) -> int:
        return int(self._compiled.memory_size_bytes)

    def pack(self) -> bytes:
        # JSON of megabytes: where compiling took less, it is done again.
        if self._seconds < self.num_bytes * _PACKING_SECONDS:
            return b""
        return str(self._compiled.serialize_json()).encode()

    def has_beginning(self) -> bool:
        """Whether any output at all follows the grammar."""
        matcher = self.matcher()
        return matcher.is_terminated or matcher.allows_any()


class XGrammarMatcher(GrammarMatcher):
    """One output under a grammar."""

    def __init__(self, matcher: xgrammar.GrammarMatcher, masks: _Masks, *, is_free: bool) -> None:
        self._matcher = matcher
        self._masks = masks
        self._is_free = is_free

    def accept_token(self, token_id: int) -> bool:
        if self.is_terminated or not 0 <= token_id < self._masks.vocab_size:
            return False
        if not self._is_free and token_id in self._masks.special_ids and not self._allows(token_id):
            return False
        return bool(self._matcher.accept_token(token_id))

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        if not self._fill(bitmask_BW, row):
            raise RequestError(
                "the grammar allows no token here: it has a rule that matches no text", code="grammar_dead_end"
            )

    def rollback(self, num_tokens: int) -> None:
        self._matcher.rollback(num_tokens)

    def forced_text(self) -> bytes:
        if self.is_terminated:
            return b""
        try:
            return str(self._matcher.find_jump_forward_string()).encode()
        except UnicodeDecodeError:
            # The library gives text alone, and this one goes on in the middle of a character.
            return b""

    @property
    def is_terminated(self) -> bool:
        return bool(self._matcher.is_terminated())

    def allows_any(self) -> bool:
        """Whether some token may come next."""
        return self._fill(self._masks.empty(), 0)

    def _allows(self, token_id: int) -> bool:
        mask_BW = self._masks.empty()
        self._fill(mask_BW, 0)
        return bool(mask_BW[0, token_id // 32] >> token_id % 32 & 1)

    def _fill(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> bool:
        mask_W = bitmask_BW[row]
        mask_W[:] = 0
        if self.is_terminated:
            for end in self._matcher.stop_token_ids:
                mask_W[end // 32] |= np.uint32(1 << end % 32).view(np.int32)
        else:
            self._matcher.fill_next_token_bitmask(bitmask_BW, row)
            self._masks.mend(mask_W, is_free=self._is_free)
        return bool(mask_W.any())


class _Masks:
    """What is wrong with the library's masks of one vocabulary."""

    def __init__(self, spelled: list[bytes], env: GrammarEnv, special: SpecialTokens) -> None:
        self.vocab_size = env.vocab_size
        self.special_ids = frozenset(special.ids.values())
        self._num_words = -(-env.vocab_size // 32)
        #: Bits of the last word that are tokens.
        self._last_word = np.int32(-1 if env.vocab_size % 32 == 0 else (1 << env.vocab_size % 32) - 1)
        bits = np.ones(self._num_words * 32, dtype=np.uint8)
        bits[list(self.special_ids)] = 0
        self._plain_W = np.packbits(bits, bitorder="little").view("<i4").astype(np.int32)
        #: A token that cannot stand in any text: where it is allowed, the library lets all bytes through.
        self._canary = next(
            (index for index, text in enumerate(spelled) if text[:1] == SPECIAL_MARK and len(text) == 1), None
        )

    def empty(self) -> npt.NDArray[np.int32]:
        """A mask of one row that allows nothing."""
        return np.zeros((1, self._num_words), dtype=np.int32)

    def mend(self, mask_W: npt.NDArray[np.int32], *, is_free: bool) -> None:
        """Forbid what is no token, and special tokens within text unless it ``is_free``."""
        # The library also sets what is beyond the vocabulary.
        mask_W[-1] &= self._last_word
        if not is_free and self.special_ids and self._is_text(mask_W):
            mask_W &= self._plain_W

    def _is_text(self, mask_W: npt.NDArray[np.int32]) -> bool:
        """Whether the mask is that of text up to a marker, whose bytes the library does not look at."""
        if self._canary is not None:
            return bool(mask_W[self._canary // 32] >> self._canary % 32 & 1)
        return len(self.special_ids) > 1 and bool((mask_W | self._plain_W == -1).all())


def _mend(schemas: list[dict[str, Any]]) -> None:
    """Change what the library would compile into something else."""
    _mend_lengths(schemas)
    for schema in schemas:
        # Further names might be declared ones, whose values would follow the wrong schema.
        if schema.get("properties") and "additionalProperties" in schema:
            schema["additionalProperties"] = False
        # The check has seen that the branches exclude each other, which the library cannot always see.
        if "oneOf" in schema:
            schema["anyOf"] = schema.pop("oneOf")


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
