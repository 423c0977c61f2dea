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
    """The suite for a format that ``tests.parsers.formats`` can write, by default the first of the parser's name."""

    form: ClassVar[RenderedFormat]

    def __init_subclass__(cls) -> None:
        if cls.name:
            if "form" not in vars(cls):
                cls.form = _form(cls.name)
            if "markers" not in vars(cls):
                cls.markers = cls.form.markers
            cls.cases = _cases(cls.form)

    @classmethod
    def render(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return cls.form.render(LogicalCase(name="", parts=[(name, arguments)]))


class BareSuite(RenderedSuite):
    """For formats that write strings without quotes."""

    arguments = _BARE
    quotes_markers = False


@pytest.mark.slow
class TestInternS1(RenderedSuite):
    name = "interns1"


@pytest.mark.slow
class TestLlama3(RenderedSuite):
    name = "llama3"


@pytest.mark.slow
class TestMistral(RenderedSuite):
    name = "mistral"


@pytest.mark.slow
class TestMistralCompact(RenderedSuite):
    name = "mistral"
    form = _form("mistral", 1)


@pytest.mark.slow
class TestMistralWithIds(RenderedSuite):
    name = "mistral-compact"
    form = _form("mistral-compact", 1)


@pytest.mark.slow
class TestDeepSeekV3(RenderedSuite):
    name = "deepseekv3"


@pytest.mark.slow
class TestDeepSeekV31(RenderedSuite):
    name = "deepseekv31"


class TestKimiK2(RenderedSuite):
    name = "kimi_k2"


class TestGptOss(RenderedSuite):
    name = "gpt-oss"
    form = _form("gpt-oss")
    #: The frame of an answer is dropped too.
    markers = (*form.markers, "<|channel|>final<|message|>")


class TestPythonic(RenderedSuite):
    name = "pythonic"
    arguments = _KEYWORDS
    #: Keys are identifiers.
    quotes_markers = False

    @classmethod
    def render(cls, name: str, arguments: Mapping[str, Any]) -> str:
        return f"<|python_start|>{super().render(name, arguments)}<|python_end|>"


class TestQwen3Coder(BareSuite):
    name = "qwen3_coder"


@pytest.mark.slow
class TestMimo(BareSuite):
    name = "mimo"


@pytest.mark.slow
class TestDeepSeekV32(BareSuite):
    name = "deepseekv32"


@pytest.mark.slow
class TestGlm45(BareSuite):
    name = "glm45"


@pytest.mark.slow
class TestGlm47(BareSuite):
    name = "glm47"


@pytest.mark.slow
class TestStep3(BareSuite):
    name = "step3"


@pytest.mark.slow
class TestMinimaxM2(BareSuite):
    name = "minimax-m2"
