"""OutlinesBackend: grammars as finite automata over tokens, by the outlines-core library."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import outlines_core
from outlines_core import json_schema

from hookline.errors import RequestError
from hookline.interfaces.grammar import (
    CompiledGrammar,
    GrammarBackend,
    GrammarEnv,
    GrammarMatcher,
    UnsupportedGrammarError,
)
from hookline.text.regex_size import expanded_length
from hookline_grammar.choices import as_regex, parse_choices
from hookline_grammar.options import GrammarOptions
from hookline_grammar.regexes import check_regex, refuse_regex
from hookline_grammar.schema_check import SchemaCheck
from hookline_grammar.vocabulary import spellings

SCHEMAS = SchemaCheck(
    backend="outlines",
    ignored=frozenset(
        {
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "minProperties",
            "maxProperties",
            "patternProperties",
            "propertyNames",
        }
    ),
    exclusive=((frozenset({"format"}), frozenset({"pattern", "minLength", "maxLength"})),),
    # Its grammars for these hold characters that JSON must escape.
    ignored_formats=frozenset({"email", "uri"}),
    escapes_names=False,
    # Their automata take minutes to build.
    allows_any=False,
)
#: An automaton of this many items takes seconds to build.
MAX_EXPANDED_LENGTH = 20_000
#: Ends every text of an automaton, as a token of its own. The library drops transitions from states in which a
#: text may end; with a mark at the end none but the last is such a state. Other tokens with this byte are left
#: out, so no output ever contains it.
_MARK = b"\x00"
_MARK_PATTERN = r"\x00"


class OutlinesBackend(GrammarBackend):
    """Regex, and JSON schema by way of a regex: recursive schemas end at a fixed depth."""

    def __init__(self, env: GrammarEnv) -> None:
        super().__init__(env)
        self._options = env.options or GrammarOptions()
        tokens: dict[bytes, list[int]] = {}
        for index, spelled in enumerate(spellings(env)):
            if spelled and _MARK not in spelled:
                tokens.setdefault(spelled, []).append(index)
        tokens[_MARK] = [env.vocab_size]
        # The library wants an end token of its own; ours are added where the mark may follow.
        self._vocabulary = outlines_core.Vocabulary(env.vocab_size + 1, tokens)

    def compile(self, kind: str, source: str) -> OutlinesCompiled:
        if kind == "json_schema":
            pattern = self._pattern_of(source)
        elif kind == "regex":
            check_regex(source)
            pattern = _unanchored(source)
        elif kind == "choice":
            pattern = as_regex(parse_choices(source))
        else:
            raise RequestError(f"outlines does not compile {kind} (known: choice, json_schema, regex)", param=kind)
        try:
            if expanded_length(pattern) > MAX_EXPANDED_LENGTH:
                raise UnsupportedGrammarError(
                    f"{kind} is too large for outlines: its repeats amount to too many items", param=kind
                )
            index = outlines_core.Index(f"(?:{pattern}){_MARK_PATTERN}", self._vocabulary)
        except ValueError as exc:
            if isinstance(exc, RequestError):
                raise
            if kind == "regex":
                refuse_regex("outlines", source, str(exc))
            raise RequestError(f"{kind} does not compile with outlines: {exc!s:.500}", param=kind) from exc
        return OutlinesCompiled(index, self.env)

    def unpack(self, kind: str, source: str, packed: bytes) -> OutlinesCompiled:
        return OutlinesCompiled(outlines_core.Index.from_binary(packed), self.env)

    def _pattern_of(self, source: str) -> str:
        SCHEMAS.parse(source)
        whitespace = None if self._options.any_whitespace else ""
        try:
            return str(json_schema.build_regex_from_schema(source, whitespace))
        except ValueError as exc:
            raise UnsupportedGrammarError(
                f"json_schema does not compile with outlines: {exc!s:.500}", param="json_schema"
            ) from exc


class OutlinesCompiled(CompiledGrammar):
    """An automaton over tokens, and the masks of the states met so far. Used from the scheduler's thread."""

    def __init__(self, index: outlines_core.Index, env: GrammarEnv) -> None:
        self.index = index
        self.start: int = index.get_initial_state()
        self.end_token_ids = frozenset(end for end in env.end_token_ids if end < env.vocab_size)
        self._vocab_size = env.vocab_size
        self._masks: dict[int, npt.NDArray[np.int32]] = {}

    def matcher(self) -> OutlinesMatcher:
        return OutlinesMatcher(self)

    @property
    def num_bytes(self) -> int:
        # Written out, a transition takes about 6 bytes; in the hash tables of the automaton about four times that.
        return 4 * len(self.pack())

    def pack(self) -> bytes:
        _, (written,) = self.index.__reduce__()
        return bytes(written)

    def is_complete(self, state: int) -> bool:
        """Whether a text may end in a state."""
        following = self.index.get_next_state(state, self._vocab_size)
        return following is not None and bool(self.index.is_final_state(following))

    def mask(self, state: int) -> npt.NDArray[np.int32]:
        """int32 [ceil(V / 32)] of the tokens that may follow a state."""
        mask_W = self._masks.get(state)
        if mask_W is None:
            allowed = np.zeros(-(-self._vocab_size // 32) * 32, dtype=np.uint8)
            tokens = self.index.get_allowed_tokens(state) or ()
            allowed[[token for token in tokens if token < self._vocab_size]] = 1
            if self.is_complete(state):
                allowed[list(self.end_token_ids)] = 1
            mask_W = np.packbits(allowed, bitorder="little").view("<i4").astype(np.int32)
            self._masks[state] = mask_W
        return mask_W


class OutlinesMatcher(GrammarMatcher):
    """One output under a grammar."""

    def __init__(self, grammar: OutlinesCompiled) -> None:
        self._grammar = grammar
        #: The state before each accepted token, then the present one.
        self._states = [grammar.start]
        self._has_ended = False

    def accept_token(self, token_id: int) -> bool:
        if self.is_terminated:
            return False
        state = self._states[-1]
        if token_id in self._grammar.end_token_ids:
            if not self._grammar.is_complete(state):
                return False
            self._has_ended = True
            self._states.append(state)
            return True
        mask_W = self._grammar.mask(state)
        if not 0 <= token_id < len(mask_W) * 32 or not mask_W[token_id // 32] >> token_id % 32 & 1:
            return False
        following = self._grammar.index.get_next_state(state, token_id)
        if following is None:
            return False
        self._states.append(following)
        return True

    def fill_bitmask(self, bitmask_BW: npt.NDArray[np.int32], row: int) -> None:
        mask_W = self._grammar.mask(self._states[-1])
        if not mask_W.any():
            raise RequestError("the grammar allows no token here", code="grammar_dead_end")
        bitmask_BW[row] = mask_W

    def rollback(self, num_tokens: int) -> None:
        if not 0 <= num_tokens < len(self._states):
            raise ValueError(f"{len(self._states) - 1} tokens were accepted; {num_tokens} cannot be undone")
        if num_tokens:
            del self._states[-num_tokens:]
            self._has_ended = False

    @property
    def is_terminated(self) -> bool:
        if self._has_ended:
            return True
        # Without an end token an output ends where nothing can follow.
        return not self._grammar.end_token_ids and not self._grammar.mask(self._states[-1]).any()


def _unanchored(pattern: str) -> str:
    """A regex without the anchors at its ends: the whole output has to match anyway."""
    pattern = pattern.removeprefix("^")
    if re.search(r"(?<!\\)(?:\\\\)*\$\Z", pattern):
        pattern = pattern[:-1]
    return pattern
