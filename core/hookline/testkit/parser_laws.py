"""ParserLaws: what holds for parsers of reasoning and of function calls alike."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import strategies as st

from hookline.interfaces.parsers import FunctionCallParserSpec, ReasoningParserSpec
from hookline.testkit.offer_suite import OfferSuite, in_child
from hookline.testkit.parser_answers import parts, vocabularies
from hookline.testkit.splits import cut, fragments
from hookline.text.tokenizer import Tokenizer

S = TypeVar("S", ReasoningParserSpec, FunctionCallParserSpec)

_vocabularies = functools.cache(vocabularies)


class ParserLaws(OfferSuite[S]):
    """What holds for parsers of both kinds."""

    #: The fixed strings of the format, each as the model writes it.
    markers: ClassVar[Sequence[str]] = ()
    cases: ClassVar[Sequence[Any]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            cases = metafunc.cls.cases if metafunc.cls else ()
            metafunc.parametrize("case", cases, ids=[ascii(case.text)[1:30] or "empty" for case in cases])

    @classmethod
    def texts(cls) -> tuple[str, ...]:
        """The outputs of the cases."""
        return tuple(case.text for case in cls.cases)

    @classmethod
    def known_markers(cls) -> tuple[str, ...]:
        """``markers``; an error that says what is missing if there are none."""
        if not cls.markers or not cls.cases:
            raise pytest.UsageError(f"{cls.__name__}: set `cases`, and `markers` to the fixed strings of the format")
        return tuple(cls.markers)

    @classmethod
    def tokenizers(cls) -> list[Tokenizer]:
        """Vocabularies by whose tokens texts are cut."""
        return _vocabularies(cls.known_markers(), cls.texts())

    @classmethod
    def draw_text(cls, data: st.DataObject) -> tuple[str, list[str]]:
        """A text of fragments of the format, and a way of cutting it."""
        return data.draw(cut(fragments(*parts(cls.known_markers(), cls.texts()))))

    def test_has_cases_and_markers(self) -> None:
        assert self.cases, f"{type(self).__name__}: set `cases` to outputs and what is found in them"
        assert self.known_markers()

    def test_template_markers_are_strings(self) -> None:
        """``template_markers=("<a>")`` is a string: ``auto`` would look for its characters."""
        markers = self.offer().spec.template_markers
        assert isinstance(markers, tuple), "a tuple, with a comma if it has one item"
        assert all(isinstance(marker, str) and marker for marker in markers)

    def test_the_target_imports_no_torch(self) -> None:
        """Parsers run in the server's process, which does without."""
        module = self.offer().spec.target.partition(":")[0]
        loaded = in_child(f"import sys, {module}; print('torch' in sys.modules, 'transformers' in sys.modules)")
        assert loaded.split() == ["False", "False"], f"{module} imports torch or transformers"
