"""Every format reads back what its template renders, however the output is cut and wherever it ends."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hookline.frontend.output_parser import ComposedOutputParser
from hookline.interfaces.parsers import (
    FunctionCallParser,
    FunctionCallParserSpec,
    ReasoningContext,
    ReasoningParser,
    ReasoningParserSpec,
    UnknownFunctions,
)
from hookline.plugins.manager import load_plugins
from hookline.plugins.registry import Registry
from hookline.testkit.parser_answers import Found, join_calls, strict_json
from hookline.testkit.vocabularies import TEXTS, byte_level, token_pieces
from hookline.text.tokenizer import Tokenizer
from tests.parsers.cases import CASE_TOOLS, LogicalCase, logical_cases
from tests.parsers.formats import FORMATS, RenderedFormat, names

_PLUGINS = Path(__file__).parents[2] / "plugins"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read of an output, joined."""

    reasoning: str
    found: Found


@functools.cache
def _registry() -> Registry:
    return load_plugins(source_tree=[_PLUGINS], strict=False)


@functools.cache
def _reasoning_class(name: str) -> type[ReasoningParser]:
    return _load(_registry().get(ReasoningParserSpec, name).spec.target)


@functools.cache
def _call_class(name: str) -> type[FunctionCallParser]:
    return _load(_registry().get(FunctionCallParserSpec, name).spec.target)


def _load(target: str) -> type:
    import importlib

    module, _, attribute = target.partition(":")
    loaded = getattr(importlib.import_module(module), attribute)
    assert isinstance(loaded, type)
    return loaded


def _parser(form: RenderedFormat, case: LogicalCase, unknown: UnknownFunctions = "call") -> ComposedOutputParser:
    calls = _call_class(form.parser)(CASE_TOOLS, unknown_functions=unknown)
    if not case.reasoning and form.reasoning != "gpt-oss":
        return ComposedOutputParser(None, calls)
    context = ReasoningContext(prompt_tail="", template_kwargs={})
    return ComposedOutputParser(_reasoning_class(form.reasoning)(context), calls)


def _read(form: RenderedFormat, case: LogicalCase, pieces: Sequence[str], unknown: UnknownFunctions = "call") -> Answer:
    parser = _parser(form, case, unknown)
    deltas = [*map(parser.feed, pieces), parser.finish()]
    return Answer("".join(split.reasoning for split, _ in deltas), join_calls([found for _, found in deltas]))


@functools.cache
def _tokenizers() -> list[Tokenizer]:
    """Tokens learned from the formats, without and with whole markers."""
    markers = sorted({marker for form in FORMATS for marker in form.markers}, key=len, reverse=True)
    texts = (*TEXTS, *(form.render(case) for form in FORMATS for case in logical_cases([])[:12]))
    return [byte_level(texts), byte_level(texts, added=markers)]


def _random_cut(text: str, rng: random.Random) -> list[str]:
    ends = sorted(rng.choices(range(len(text) + 1), k=rng.randint(1, 12)))
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def _ways(text: str, num_random: int) -> Iterator[list[str]]:
    yield list(text)
    for tokenizer in _tokenizers():
        yield token_pieces(tokenizer, text)
    rng = random.Random(text)
    for _ in range(num_random):
        yield _random_cut(text, rng)


def _check_whole(form: RenderedFormat, case: LogicalCase) -> tuple[str, Answer]:
    text = form.render(case)
    whole = _read(form, case, [text])
    assert [(name, strict_json(arguments)) for name, arguments in whole.found.calls] == case.calls
    assert not whole.found.incomplete
    assert whole.found.content.split() == case.content.split()
    assert whole.reasoning == case.reasoning
    return text, whole


def _check_end(form: RenderedFormat, case: LogicalCase, text: str, end: int) -> None:
    """An output that ends anywhere: cut or not it reads the same, and its complete calls are those of the whole."""
    cut = _read(form, case, [text[:end]])
    assert _read(form, case, list(text[:end])) == cut
    complete = cut.found.calls[: len(cut.found.calls) - cut.found.incomplete]
    assert [(name, strict_json(arguments)) for name, arguments in complete] == case.calls[: len(complete)]


_PAIRS = [(form, case) for form in FORMATS for case in logical_cases(form.quotable)]
_IDS = [f"{name}-{case.name}" for form, name in zip(FORMATS, names(), strict=True) for case in logical_cases([])]


@pytest.mark.parametrize(("form", "case"), _PAIRS, ids=_IDS)
def test_what_is_rendered_is_read(form: RenderedFormat, case: LogicalCase) -> None:
    text, whole = _check_whole(form, case)
    for pieces in _ways(text, num_random=2):
        assert _read(form, case, pieces) == whole
    rng = random.Random(text)
    for end in rng.sample(range(len(text) + 1), min(3, len(text))):
        _check_end(form, case, text, end)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "case"), _PAIRS, ids=_IDS)
def test_what_is_rendered_is_read_for_all_cuts(form: RenderedFormat, case: LogicalCase) -> None:
    text, whole = _check_whole(form, case)
    for pieces in _ways(text, num_random=200):
        assert _read(form, case, pieces) == whole
    for end in range(len(text) + 1):
        _check_end(form, case, text, end)


@pytest.mark.parametrize("form", FORMATS, ids=names())
def test_unknown_functions_may_stay_content(form: RenderedFormat) -> None:
    case = LogicalCase(name="", parts=["a", ("rm_rf", {"path": "x"}), "b", ("now", {})])
    text = form.render(case)
    whole = _read(form, case, [text], "content")
    assert _read(form, case, list(text), "content") == whole
    assert [name for name, _ in whole.found.calls] == ["now"]
    assert "rm_rf" in whole.found.content
    assert "path" in whole.found.content


@pytest.mark.parametrize("form", FORMATS, ids=names())
def test_nothing_is_withheld_but_what_may_be_a_marker(form: RenderedFormat) -> None:
    """A string argument and plain text are told up to a suffix no longer than a marker."""
    longest = max(map(len, form.markers)) + len("<|channel|>commentary to=functions.")
    for part in (("get_weather", {"city": "x" * 200}), "y" * 200):
        case = LogicalCase(name="", parts=[part])
        parser = _parser(form, case)
        text = form.render(case)
        letter = "y" if isinstance(part, str) else "x"
        given = 0
        for at, character in enumerate(text):
            _, found = parser.feed(character)
            given += (found.content + "".join(call.arguments for call in found.calls)).count(letter)
            assert text[: at + 1].count(letter) - given <= longest


@pytest.mark.parametrize("form", FORMATS, ids=names())
def test_a_call_is_told_before_it_ends(form: RenderedFormat) -> None:
    case = LogicalCase(name="", parts=[("get_weather", {"city": "x" * 2000})])
    text = form.render(case)
    parser = _parser(form, case)
    _, found = parser.feed(text[: text.index("xx") + 1000])
    (call,) = found.calls
    assert call.name == "get_weather"
    assert call.arguments.count("x") > 900
