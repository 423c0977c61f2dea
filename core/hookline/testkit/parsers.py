"""ReasoningParserSuite, FunctionCallParserSuite: the same answer however the output is cut, and nothing lost.

Authors give cases; the suites cut them everywhere, break them off everywhere, and mix their fragments.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.interfaces.parsers import (
    FunctionCallParser,
    FunctionCallParserSpec,
    ReasoningContext,
    ReasoningParser,
    ReasoningParserSpec,
)
from hookline.testkit.parser_answers import (
    TOOLS,
    WORDS,
    CallCase,
    Found,
    ReasoningCase,
    Split,
    argument_objects,
    ends,
    essence,
    find_calls,
    function_names,
    join_calls,
    join_splits,
    open_end,
    split_reasoning,
    strict_json,
    ways,
)
from hookline.testkit.parser_laws import ParserLaws
from hookline.testkit.properties import examples
from hookline.testkit.splits import cut


class ReasoningParserSuite(ParserLaws[ReasoningParserSpec]):
    """Give ``cases``, and ``opens`` and ``closes`` if reasoning stands between two fixed strings.

    A format without such strings gives ``markers`` instead, and its cases have to cover what can happen: opened
    by the template or by the model, never closed, empty, none at all.
    """

    kind = "reasoning_parsers"

    cases: ClassVar[Sequence[ReasoningCase]] = ()
    opens: ClassVar[str] = ""
    closes: ClassVar[str] = ""
    #: The end of a prompt in which the template has opened the reasoning; ``None`` if no template does.
    opened_tail: ClassVar[str | None] = None
    #: The end of a prompt in which it has not.
    plain_tail: ClassVar[str] = "<|im_start|>assistant\n"

    @classmethod
    def known_markers(cls) -> tuple[str, ...]:
        if cls.opens and cls.closes and not cls.markers:
            return (cls.opens, cls.closes)
        return super().known_markers()

    @classmethod
    def parser(cls, prompt_tail: str, template_kwargs: Mapping[str, Any] | None = None) -> ReasoningParser:
        context = ReasoningContext(prompt_tail=prompt_tail, template_kwargs=template_kwargs or {})
        parser = cls.target()(context)
        assert isinstance(parser, ReasoningParser), "the target must be a subclass of ReasoningParser"
        return parser

    @classmethod
    def split(cls, pieces: Sequence[str], prompt_tail: str, template_kwargs: Mapping[str, Any] | None = None) -> Split:
        """What a new parser answers to the pieces, joined."""
        return split_reasoning(cls.parser(prompt_tail, template_kwargs), pieces)

    @classmethod
    def tails(cls) -> list[str]:
        """Ends of prompts that the cases know."""
        tails = [cls.plain_tail, *(case.prompt_tail for case in cls.cases)]
        return [*dict.fromkeys([*tails, *([] if cls.opened_tail is None else [cls.opened_tail])])]

    @classmethod
    def need_tags(cls) -> tuple[str, str]:
        if not cls.opens or not cls.closes:
            pytest.skip("the format has no pair of fixed strings (`opens`, `closes`): its cases cover this")
        return cls.opens, cls.closes

    def test_cases_split_the_same_however_they_are_cut(self, case: ReasoningCase) -> None:
        for pieces in ways(case.text, self.tokenizers()):
            assert self.split(pieces, case.prompt_tail, case.template_kwargs) == Split(case.reasoning, case.content)

    def test_an_output_that_ends_anywhere_loses_nothing(self, case: ReasoningCase) -> None:
        markers = self.known_markers()
        for end in ends(case.text):
            text = case.text[:end]
            whole = self.split([text], case.prompt_tail, case.template_kwargs)
            assert self.split(list(text), case.prompt_tail, case.template_kwargs) == whole
            given = essence(whole.reasoning, markers) + essence(whole.content, markers)
            assert sorted(given) == sorted(essence(text, markers)), f"of the output {text!r}"

    @pytest.mark.parametrize("is_opened", [False, True])
    def test_reasoning_is_opened_by_the_template_or_by_the_model(self, is_opened: bool) -> None:
        opens, closes = self.need_tags()
        if is_opened and self.opened_tail is None:
            pytest.skip("no template opens the reasoning (`opened_tail`)")
        tail = self.opened_tail if is_opened and self.opened_tail is not None else self.plain_tail
        begin = "" if is_opened else opens
        for text, reasoning, content in (
            (f"{begin}why\nnot{closes}because\n of it", "why\nnot", "because\n of it"),
            (f"{begin}{closes}because", "", "because"),
            (f"{begin}never closed", "never closed", ""),
            (f"{begin}only reasoning{closes}", "only reasoning", ""),
            (f"{begin}漢字 👩‍👧 é{closes}größe", "漢字 👩‍👧 é", "größe"),
        ):
            for pieces in ways(text, self.tokenizers()):
                answer = self.split(pieces, tail)
                assert (answer.reasoning.strip(), answer.content.strip()) == (reasoning, content)

    def test_a_tag_within_reasoning_does_not_end_it(self) -> None:
        opens, closes = self.need_tags()
        text = f"{opens}one {opens}two{closes}three"
        for pieces in ways(text, self.tokenizers()):
            answer = self.split(pieces, self.plain_tail)
            assert essence(answer.reasoning, self.known_markers()) == "onetwo"
            assert essence(answer.content, self.known_markers()) == "three"

    def test_text_is_given_as_soon_as_it_cannot_be_a_marker(self) -> None:
        markers = self.known_markers()
        for tail in self.tails():
            parser, text, deltas = self.parser(tail), "", []
            for piece in ("Hel", "lo", " wor", "ld.\n", "1 <", " 2 ", *(marker[:-1] + " x" for marker in markers)):
                text += piece
                if any(marker in text for marker in markers):
                    break
                deltas.append(parser.feed(piece))
                answer = join_splits(deltas)
                due = text[: len(text) - open_end(text, markers)].strip()
                assert (answer.reasoning + answer.content).strip().startswith(due), f"held after {text!r}"

    def test_the_start_of_a_marker_at_the_end_is_text(self) -> None:
        for marker in self.known_markers():
            for end in range(1, len(marker)):
                text = "abc " + marker[:end]
                for pieces in ([text], list(text)):
                    answer = self.split(pieces, self.plain_tail)
                    assert answer.reasoning + answer.content == text

    @examples(60)
    @given(text=st.text())
    def test_plain_text_passes_unchanged(self, text: str) -> None:
        if any(marker in text for marker in self.known_markers()):
            return
        for pieces in ([text], list(text)):
            answer = self.split(pieces, self.plain_tail)
            # A format may count output without any marker as reasoning, and trim that.
            assert answer in (Split("", text), Split(text, ""), Split(text.strip(), ""))

    @examples(120)
    @given(data=st.data())
    def test_any_text_is_split_the_same_and_keeps_its_words(self, data: st.DataObject) -> None:
        text, pieces = self.draw_text(data)
        tail = data.draw(st.sampled_from(self.tails()))
        whole = self.split([text], tail)
        assert self.split(pieces, tail) == whole
        assert self.split(list(text), tail) == whole
        for word in WORDS:
            assert whole.reasoning.count(word) + whole.content.count(word) == text.count(word)

    def test_parsers_share_nothing(self) -> None:
        """Choices are parsed side by side in one process."""
        cases = [*self.cases, *self.cases]
        parsers = [self.parser(case.prompt_tail, case.template_kwargs) for case in cases]
        deltas: list[list[Any]] = [[] for _ in cases]
        for at in range(max((len(case.text) for case in cases), default=0)):
            for case, parser, given_so_far in zip(cases, parsers, deltas, strict=True):
                if at < len(case.text):
                    given_so_far.append(parser.feed(case.text[at]))
        for case, parser, given_so_far in zip(cases, parsers, deltas, strict=True):
            assert join_splits([*given_so_far, parser.finish()]) == Split(case.reasoning, case.content)


class FunctionCallParserSuite(ParserLaws[FunctionCallParserSpec]):
    """Give ``cases`` and ``markers``, and ``render`` so that calls with any arguments can be tried."""

    kind = "function_call_parsers"

    cases: ClassVar[Sequence[CallCase]] = ()
    #: Whether a marker may stand in a string of the arguments; false for a format that cannot quote.
    quotes_markers: ClassVar[bool] = True
    #: Arguments that the format can write; give another strategy if it cannot write all of JSON.
    arguments: ClassVar[st.SearchStrategy[dict[str, Any]]] = argument_objects()

    @classmethod
    def render(cls, name: str, arguments: Mapping[str, Any]) -> str | None:
        """One call as the model writes it; ``None`` if the suite shall not make up calls."""
        return None

    @classmethod
    def parser(cls, tools: Sequence[Mapping[str, Any]] = TOOLS) -> FunctionCallParser:
        parser = cls.target()(tools)
        assert isinstance(parser, FunctionCallParser), "the target must be a subclass of FunctionCallParser"
        return parser

    @classmethod
    def find(cls, pieces: Sequence[str], tools: Sequence[Mapping[str, Any]] = TOOLS) -> Found:
        """What a new parser answers to the pieces, joined."""
        return find_calls(cls.parser(tools), pieces)

    @classmethod
    def need_render(cls, name: str, arguments: Mapping[str, Any]) -> str:
        text = cls.render(name, arguments)
        if text is None:
            pytest.skip("the suite makes up no calls (`render`)")
        return text

    @staticmethod
    def check(found: Found, case: CallCase) -> None:
        """Compare with what a case expects; arguments of complete calls as values."""
        assert (found.content, found.incomplete) == (case.content, case.incomplete)
        assert [name for name, _ in found.calls] == [name for name, _ in case.calls]
        complete = len(case.calls) - case.incomplete
        arguments = [strict_json(text) for _, text in found.calls[:complete]]
        assert arguments == [dict(values) for _, values in case.calls[:complete]]

    def test_cases_are_found_however_they_are_cut(self, case: CallCase) -> None:
        whole = self.find([case.text], case.tools)
        self.check(whole, case)
        for pieces in ways(case.text, self.tokenizers()):
            assert self.find(pieces, case.tools) == whole

    def test_an_output_that_ends_anywhere_loses_nothing(self, case: CallCase) -> None:
        markers = self.known_markers()
        expected = [(name, dict(arguments)) for name, arguments in case.calls]
        for end in ends(case.text):
            text = case.text[:end]
            whole = self.find([text], case.tools)
            assert self.find(list(text), case.tools) == whole
            assert self.find([text[: end // 2], text[end // 2 :]], case.tools) == whole
            if not whole.calls:
                assert essence(whole.content, markers) == essence(text, markers), f"lost of the output {text!r}"
            told = whole.calls[: len(whole.calls) - whole.incomplete]
            complete = [(name, strict_json(arguments)) for name, arguments in told]
            assert complete == expected[: len(complete)], f"a call of {text!r} is not one of the whole output"

    @examples(150)
    @given(data=st.data())
    def test_any_text_is_parsed_the_same_and_never_raises(self, data: st.DataObject) -> None:
        text, pieces = self.draw_text(data)
        whole = self.find([text])
        assert self.find(pieces) == whole
        assert self.find(list(text)) == whole
        if not whole.incomplete:
            assert all(isinstance(strict_json(arguments), dict) for _, arguments in whole.calls)
        if not whole.calls:
            assert [whole.content.count(word) for word in WORDS] == [text.count(word) for word in WORDS]

    @examples(60)
    @given(text=st.text())
    def test_plain_text_passes_unchanged(self, text: str) -> None:
        if any(marker in text for marker in self.known_markers()):
            return
        for pieces in ([text], list(text)):
            assert self.find(pieces) == Found(text, (), False)

    def test_text_is_given_as_soon_as_it_cannot_be_a_marker(self) -> None:
        markers = self.known_markers()
        parser, text, deltas = self.parser(), "", []
        for piece in ("Hel", "lo", " wor", "ld.\n", "1 <", " 2 ", *(marker[:-1] + " x" for marker in markers)):
            text += piece
            if any(marker in text for marker in markers):
                break
            deltas.append(parser.feed(piece))
            due = text[: len(text) - open_end(text, markers)].rstrip()
            assert join_calls(deltas).content.startswith(due), f"held after {text!r}"

    def test_the_start_of_a_marker_at_the_end_is_text(self) -> None:
        markers = self.known_markers()
        closed = [case for case in self.cases if case.calls and case.text.endswith(tuple(markers))]
        for start in [marker[:end] for marker in markers for end in range(1, len(marker))]:
            if any(marker in start for marker in markers):
                continue
            for pieces in (["abc " + start], list("abc " + start)):
                assert self.find(pieces) == Found("abc " + start, (), False)
            for case in closed[:2]:
                found = self.find([case.text, *("abc" + start)], case.tools)
                assert essence(found.content, markers) == essence(case.content + "abc" + start, markers)

    @examples(60)
    @given(data=st.data())
    def test_every_call_that_the_format_can_write_arrives(self, data: st.DataObject) -> None:
        self.need_render("f", {})
        calls = data.draw(st.lists(st.tuples(function_names(), self.arguments), min_size=1, max_size=3))
        text = "\n".join(self.need_render(name, values) for name, values in calls)
        _, pieces = data.draw(cut(st.just(text)))
        found = self.find(pieces)
        assert self.find(list(text)) == found
        assert (found.content.strip(), found.incomplete) == ("", False)
        assert [(name, strict_json(arguments)) for name, arguments in found.calls] == calls

    @pytest.mark.parametrize(
        "written", ["NaN", "-Infinity", "1e999", '"\\ud800"', '"\\udc00\\ud800"', "[1,]", "0x1", "01"]
    )
    def test_arguments_are_json_whatever_the_model_writes(self, written: str) -> None:
        """Python reads and writes more than JSON allows, and half a surrogate pair has no UTF-8."""
        text = self.need_render("f", {"a": 1234567}).replace("1234567", written)
        found = self.find([text])
        assert self.find(list(text)) == found
        assert found.content or found.calls
        assert found.incomplete or all(isinstance(strict_json(arguments), dict) for _, arguments in found.calls)

    def test_a_name_that_has_no_utf8_reaches_nobody(self) -> None:
        found = self.find([self.need_render("name_of_it", {}).replace("name_of_it", "\\ud800")])
        assert found.content or found.calls

    def test_markers_in_strings_are_text(self) -> None:
        if not self.quotes_markers:
            pytest.skip("the format cannot quote its markers (`quotes_markers`)")
        markers = self.known_markers()
        for value in [
            *markers,
            "".join(markers),
            "".join(reversed(markers)),
            *(f'a"{marker}"\n' for marker in markers),
        ]:
            text = self.need_render("f", {"text": value, value: 1})
            for pieces in ways(text, self.tokenizers()):
                found = self.find(pieces)
                assert (found.content, found.incomplete) == ("", False)
                ((name, arguments),) = found.calls
                assert (name, strict_json(arguments)) == ("f", {"text": value, value: 1})

    def test_deep_nesting_does_not_raise(self) -> None:
        """Parsers of JSON that call themselves run out of stack."""
        for marker in self.known_markers():
            for deep in (
                "[" * 50_000,
                '{"a":' * 50_000,
                '{"name": "f", "arguments": {"a": ' + "[" * 20_000 + "]" * 20_000,
            ):
                text = marker + deep + "}}" + self.known_markers()[-1] + "end"
                pieces = [text[at : at + 4096] for at in range(0, len(text), 4096)]
                assert self.find(pieces) == self.find([text])

    def test_parsers_share_nothing(self) -> None:
        """Choices are parsed side by side in one process, and with the same tools."""
        cases = [*self.cases, *self.cases]
        tools = copy.deepcopy([case.tools for case in cases])
        parsers = [self.parser(case.tools) for case in cases]
        deltas: list[list[Any]] = [[] for _ in cases]
        for at in range(max((len(case.text) for case in cases), default=0)):
            for case, parser, given_so_far in zip(cases, parsers, deltas, strict=True):
                if at < len(case.text):
                    given_so_far.append(parser.feed(case.text[at]))
        for case, parser, given_so_far in zip(cases, parsers, deltas, strict=True):
            self.check(join_calls([*given_so_far, parser.finish()]), case)
        assert [list(case.tools) for case in cases] == [list(item) for item in tools], "tools are the request's"
