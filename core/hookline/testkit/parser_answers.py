"""What parsers answered, joined; and the texts that suites feed them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from hookline.interfaces.parsers import FunctionCallDelta, FunctionCallParser, ReasoningDelta, ReasoningParser
from hookline.testkit.splits import all_ways
from hookline.testkit.vocabularies import TEXTS, byte_level, pieces_with_fallback, token_pieces
from hookline.text.tokenizer import Tokenizer

#: Tools of a request, as the OpenAI API has them.
TOOLS: tuple[Mapping[str, Any], ...] = (
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
)
#: Words that no marker holds, so that their loss shows.
WORDS = ("zephyr", "quartz", "Jinx7")
_JSON = ("{", "}", "[", "]", ":", ",", '"', "\\", "null", "{}", '"name"', '"a": 1', "1", " ", "\n", "é漢👩‍👧")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningCase:
    """An output, and how it splits."""

    text: str
    reasoning: str = ""
    content: str = ""
    #: The end of the rendered prompt; it may have opened the reasoning.
    prompt_tail: str = ""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCase:
    """An output, and what is found in it."""

    text: str
    content: str = ""
    #: (name, arguments as Python values) in the order of the text.
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    #: Whether the last call breaks off; its arguments are then not compared.
    incomplete: bool = False
    tools: Sequence[Mapping[str, Any]] = TOOLS


@dataclass(frozen=True, slots=True)
class Found:
    """The joined answer of a function-call parser; arguments are text."""

    content: str
    calls: tuple[tuple[str, str], ...]
    incomplete: bool


@dataclass(frozen=True, slots=True)
class Split:
    """The joined answer of a reasoning parser."""

    reasoning: str
    content: str


def strict_json(text: str) -> Any:
    """The value of a JSON document; ``ValueError`` for NaN and infinities, which only Python knows."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def find_calls(parser: FunctionCallParser, pieces: Sequence[str]) -> Found:
    """Feed a parser to its end; fails if the pieces of calls are out of order."""
    return join_calls([*map(parser.feed, pieces), parser.finish()])


def join_calls(deltas: Iterable[FunctionCallDelta]) -> Found:
    """Join a parser's answers; fails if the pieces of calls are out of order."""
    content, names, arguments, incomplete = "", list[str](), list[str](), False
    for delta in deltas:
        content += delta.content
        incomplete |= delta.incomplete
        for piece in delta.calls:
            if piece.index == len(names):
                assert piece.name, "the first piece of a call carries its name"
                names.append(piece.name)
                arguments.append("")
            else:
                assert piece.index == len(names) - 1, "calls are counted from 0; a piece belongs to the last one"
                assert piece.name is None, "only the first piece of a call carries its name"
            arguments[-1] += piece.arguments
    for text in (content, *names, *arguments):
        assert not any("\ud800" <= character <= "\udfff" for character in text), f"{text!r:.80} has no UTF-8"
    return Found(content, tuple(zip(names, arguments, strict=True)), incomplete)


def split_reasoning(parser: ReasoningParser, pieces: Sequence[str]) -> Split:
    """Feed a parser to its end."""
    return join_splits([*map(parser.feed, pieces), parser.finish()])


def join_splits(deltas: Iterable[ReasoningDelta]) -> Split:
    """Join a parser's answers."""
    given = list(deltas)
    return Split("".join(delta.reasoning for delta in given), "".join(delta.content for delta in given))


def vocabularies(markers: Sequence[str], texts: Sequence[str]) -> list[Tokenizer]:
    """Byte-level tokens learned from the format itself, the same with whole markers, and characters."""
    return [
        byte_level((*TEXTS, *texts)),
        byte_level((*TEXTS, *texts), added=sorted(set(markers), key=len, reverse=True)),
        pieces_with_fallback(),
    ]


def ways(text: str, tokenizers: Sequence[Tokenizer]) -> Iterator[list[str]]:
    """Whole, by character, by groups, at random, and by token of each vocabulary."""
    yield from all_ways(text)
    for tokenizer in tokenizers:
        pieces = token_pieces(tokenizer, text)
        if "".join(pieces) == text:
            yield pieces


def ends(text: str, most: int = 250) -> Iterator[int]:
    """Where a text may be cut off: everywhere, or for a long one at ``most`` places and all over its end."""
    step = max(1, len(text) // most)
    return chain(range(0, max(0, len(text) - 40), step), range(max(0, len(text) - 40), len(text) + 1))


def parts(markers: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Fragments of a format: markers, their halves, tokens of the given texts, JSON, words."""
    halves = [half for marker in markers for half in (marker[: len(marker) // 2], marker[len(marker) // 2 :])]
    tokens = {token for text in texts for token in re.findall(r"\w+|\s+|[^\w\s]+", text)}
    return [*dict.fromkeys([*markers, *filter(None, halves), *texts, *sorted(tokens), *_JSON, *WORDS])]


def open_end(text: str, markers: Sequence[str]) -> int:
    """Length of the longest tail of a text that may be the start of a marker."""
    return max(
        (end for marker in markers for end in range(1, len(marker)) if text.endswith(marker[:end])),
        default=0,
    )


def essence(text: str, markers: Sequence[str]) -> str:
    """What of a text may not be lost: no whole markers, no white space."""
    for marker in sorted(markers, key=len, reverse=True):
        text = text.replace(marker, "")
    return "".join(text.split())


def json_values() -> st.SearchStrategy[Any]:
    """Values as JSON has them; numbers that survive a round trip."""
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )


def argument_objects() -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of calls."""
    return st.dictionaries(st.text(max_size=12), json_values(), max_size=3)


def function_names() -> st.SearchStrategy[str]:
    """Names as the OpenAI API allows them."""
    return st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,20}", fullmatch=True)
