"""Every tool-call format passes the suite that plugin authors use, with a sample of the shared cases.

``make test`` runs it for one format of each kind of arguments; the shared cases run for all formats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st

from hookline.testkit.parser_answers import CallCase
from hookline.testkit.parsers import FunctionCallParserSuite
from tests.parsers.cases import CASE_TOOLS, LogicalCase, logical_cases
from tests.parsers.formats import FORMATS, RenderedFormat

_SAMPLE = ("no call", "no arguments and more", "text before", "text after", "all types", "markers in strings")


def _form(name: str, nth: int = 0) -> RenderedFormat:
    return [form for form in FORMATS if form.parser == name][nth]


def _cases(form: RenderedFormat) -> tuple[CallCase, ...]:
    return tuple(
        CallCase(text=form.render(case), content=case.content, calls=case.calls, tools=CASE_TOOLS)
        for case in logical_cases(form.quotable)
        if case.name in _SAMPLE
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


#: What a format of bare values can write of a tool without a schema: text that is no JSON value, and JSON.
_BARE = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.text(st.characters(exclude_characters="<\r\n", exclude_categories=["Cs"]), max_size=12).filter(
        lambda text: not _is_json(text)
    )
    | st.integers(-(2**53), 2**53)
    | st.lists(st.integers() | st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=5)),
    max_size=3,
)
_KEYWORDS = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.lists(st.text(max_size=4), max_size=3),
    max_size=3,
)


class RenderedSuite(FunctionCallParserSuite):
    """The suite for a format that ``tests.parsers.formats`` can write."""

    form: ClassVar[RenderedFormat]

    @classmethod
    def render(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return cls.form.render(LogicalCase(name="", parts=[(name, arguments)]))


@pytest.mark.slow
class TestInternS1(RenderedSuite):
    name = "interns1"
    form = _form("interns1")
    markers = form.markers
    cases = _cases(form)


@pytest.mark.slow
class TestLlama3(RenderedSuite):
    name = "llama3"
    form = _form("llama3")
    markers = form.markers
    cases = _cases(form)


@pytest.mark.slow
class TestMistral(RenderedSuite):
    name = "mistral"
    form = _form("mistral")
    markers = form.markers
    cases = _cases(form)


@pytest.mark.slow
class TestMistralCompact(RenderedSuite):
    name = "mistral"
    form = _form("mistral", 1)
    markers = form.markers
    cases = _cases(form)


@pytest.mark.slow
class TestMistralWithIds(RenderedSuite):
    name = "mistral-compact"
    form = _form("mistral-compact", 1)
    markers = form.markers
    cases = _cases(form)


@pytest.mark.slow
class TestDeepSeekV3(RenderedSuite):
    name = "deepseekv3"
    form = _form("deepseekv3")
    markers = form.markers
    cases = _cases(form)


@pytest.mark.slow
class TestDeepSeekV31(RenderedSuite):
    name = "deepseekv31"
    form = _form("deepseekv31")
    markers = form.markers
    cases = _cases(form)


class TestKimiK2(RenderedSuite):
    name = "kimi_k2"
    form = _form("kimi_k2")
    markers = form.markers
    cases = _cases(form)


class TestGptOss(RenderedSuite):
    name = "gpt-oss"
    form = _form("gpt-oss")
    #: The frame of an answer is dropped too.
    markers = (*form.markers, "<|channel|>final<|message|>")
    cases = _cases(form)


class TestPythonic(RenderedSuite):
    name = "pythonic"
    form = _form("pythonic")
    markers = form.markers
    cases = _cases(form)
    arguments = _KEYWORDS
    #: Keys are identifiers.
    quotes_markers = False

    @classmethod
    def render(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return f"<|python_start|>{super().render(name, arguments)}<|python_end|>"


class TestQwen3Coder(RenderedSuite):
    name = "qwen3_coder"
    form = _form("qwen3_coder")
    markers = form.markers
    cases = _cases(form)
    arguments = _BARE
    quotes_markers = False


@pytest.mark.slow
class TestMimo(RenderedSuite):
    name = "mimo"
    form = _form("mimo")
    markers = form.markers
    cases = _cases(form)
    arguments = _BARE
    quotes_markers = False


@pytest.mark.slow
class TestDeepSeekV32(RenderedSuite):
    name = "deepseekv32"
    form = _form("deepseekv32")
    markers = form.markers
    cases = _cases(form)
    arguments = _BARE
    quotes_markers = False


@pytest.mark.slow
class TestGlm45(RenderedSuite):
    name = "glm45"
    form = _form("glm45")
    markers = form.markers
    cases = _cases(form)
    arguments = _BARE
    quotes_markers = False


@pytest.mark.slow
class TestGlm47(RenderedSuite):
    name = "glm47"
    form = _form("glm47")
    markers = form.markers
    cases = _cases(form)
    arguments = _BARE
    quotes_markers = False


@pytest.mark.slow
class TestStep3(RenderedSuite):
    name = "step3"
    form = _form("step3")
    markers = form.markers
    cases = _cases(form)
    arguments = _BARE
    quotes_markers = False


@pytest.mark.slow
class TestMinimaxM2(RenderedSuite):
    name = "minimax-m2"
    form = _form("minimax-m2")
    markers = form.markers
    cases = _cases(form)
    arguments = _BARE
    quotes_markers = False
