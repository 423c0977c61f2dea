"""The composed output parser: reasoning first, then calls in what is left."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.errors import PluginError
from hookline.frontend.output_parser import ComposedOutputParser, build_output_parser
from hookline.interfaces.api import RenderedChat
from hookline.plugins.plan import PluginPlan
from hookline.testkit.plans import chosen

_REASONING = chosen("reasoning_parsers", "pipe", "tests.factories.frontend_plugins:PipeReasoningParser")
_CALLS = chosen("function_call_parsers", "at", "tests.factories.frontend_plugins:AtCallParser")
_TOOLS = [{"type": "function", "function": {"name": "f"}}]
_TEXT = "why @not;|before @f; after @g;"


def _parser(prompt: str = "?", plan: PluginPlan | None = None, **kwargs: Any) -> ComposedOutputParser:
    plan = plan or PluginPlan(chosen=[_REASONING, _CALLS])
    return build_output_parser(plan, RenderedChat(prompt=prompt, input_ids=[1]), **kwargs)


def _run(parser: ComposedOutputParser, pieces: Sequence[str]) -> tuple[str, str, list[str | None], bool]:
    """(reasoning, content, names of calls, incomplete) of all pieces together."""
    deltas = [*(parser.feed(piece) for piece in pieces), parser.finish()]
    return (
        "".join(first.reasoning for first, _ in deltas),
        "".join(first.content + second.content for first, second in deltas),
        [call.name for _, second in deltas for call in second.calls],
        any(second.incomplete for _, second in deltas),
    )


def test_reasoning_and_calls_are_split() -> None:
    assert _run(_parser(tools=_TOOLS), [_TEXT]) == ("why @not;", "before  after ", ["f", "g"], False)


@given(cuts=st.lists(st.integers(0, len(_TEXT)), max_size=8))
def test_cutting_does_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(_TEXT)]
    pieces = [_TEXT[a:b] for a, b in pairwise(edges)]
    assert _run(_parser(tools=_TOOLS), pieces) == _run(_parser(tools=_TOOLS), [_TEXT])


def test_without_tools_calls_are_text() -> None:
    assert _run(_parser(), [_TEXT]) == ("why @not;", "before @f; after @g;", [], False)


def test_unseparated_reasoning_stays_in_the_content() -> None:
    reasoning, content, calls, _ = _run(_parser(tools=_TOOLS, separate_reasoning=False), [_TEXT])
    assert (reasoning, calls) == ("", ["not", "f", "g"])
    assert content == "why |before  after "


def test_parser_sees_prompt_and_template_kwargs() -> None:
    assert _run(_parser("end!"), ["a|b"])[:2] == ("", "a|b")
    assert _run(_parser(template_kwargs={"think": False}), ["a|b"])[:2] == ("", "a|b")
    assert _run(_parser(), ["a|b"])[:2] == ("a", "b")


def test_what_parsers_hold_back_comes_at_the_end() -> None:
    assert _run(_parser(tools=_TOOLS), ["r|text @cut"]) == ("r", "text @cut", [], True)


def test_engine_without_parsers_gives_plain_text() -> None:
    assert _run(_parser(plan=PluginPlan(), tools=_TOOLS), [_TEXT]) == ("", _TEXT, [], False)


def test_parser_that_does_not_load_is_named() -> None:
    plan = PluginPlan(chosen=[chosen("reasoning_parsers", "gone", "no.such.module:Parser")])
    with pytest.raises(PluginError, match=r"'gone'.*tests"):
        _parser(plan=plan)
