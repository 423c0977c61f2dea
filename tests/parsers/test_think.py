from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.interfaces.parsers import ReasoningContext
from hookline.testkit.splits import all_ways, cut, fragments
from hookline_parsers.reasoning.think import ThinkParser


def _split(pieces: list[str], prompt_tail: str = "<|im_start|>assistant\n") -> tuple[str, str]:
    parser = ThinkParser(ReasoningContext(prompt_tail=prompt_tail, template_kwargs={}))
    deltas = [parser.feed(piece) for piece in pieces] + [parser.finish()]
    return "".join(delta.reasoning for delta in deltas), "".join(delta.content for delta in deltas)


_OPENED = "<|im_start|>assistant\n<think>\n"


@pytest.mark.parametrize(
    ("text", "tail", "reasoning", "content"),
    [
        ("plain answer", "assistant\n", "", "plain answer"),
        ("<think>\nhm\n</think>\n\nanswer", "assistant\n", "hm", "answer"),
        ("\n<think>hm</think>answer\n", "assistant\n", "hm", "answer\n"),
        ("hm\n</think>\n\nanswer", _OPENED, "hm", "answer"),
        # The model repeats the tag that the template wrote.
        ("<think>\nhm\n</think>\n\nanswer", _OPENED, "hm", "answer"),
        # Switched off by the template: the block is closed in the prompt.
        ("answer", "assistant\n<think>\n\n</think>\n\n", "", "answer"),
        # Cut off inside the block.
        ("still thinking", _OPENED, "still thinking", ""),
        ("still thinking </thi", _OPENED, "still thinking </thi", ""),
        ("<think>a \n", "assistant\n", "a", ""),
        # A second block.
        ("<think>a</think>b\n<think>c</think>\nd", "assistant\n", "a\nc", "b\nd"),
        ("<think> \n</think>answer", "assistant\n", "", "answer"),
        # Text that only looks like a tag.
        ("abc</th", "assistant\n", "", "abc</th"),
        ("1 < 2 and <b>", "assistant\n", "", "1 < 2 and <b>"),
        ("a trailing <", "assistant\n", "", "a trailing <"),
        ("stray </think> tag", "assistant\n", "", "stray </think> tag"),
        ("  indented\n  code  ", "assistant\n", "", "  indented\n  code  "),
        (" \n ", "assistant\n", "", " \n "),
        ("", _OPENED, "", ""),
    ],
)
def test_text_is_split_the_same_for_every_way_of_cutting(text: str, tail: str, reasoning: str, content: str) -> None:
    for pieces in all_ways(text):
        assert _split(pieces, tail) == (reasoning, content)


def test_a_closing_tag_over_two_pieces_does_not_leak() -> None:
    assert _split(["abc</th", "ink>ans"], _OPENED) == ("abc", "ans")


@settings(deadline=None)
@given(
    cut(fragments("<think>", "</think>", "<", "</", "<th", "ink>", "a", "b c", "\n", " ", "\n\n", "é")),
    st.sampled_from(["assistant\n", _OPENED]),
)
def test_cuts_never_change_the_answer(case: tuple[str, list[str]], tail: str) -> None:
    text, pieces = case
    assert _split(pieces, tail) == _split([text], tail)


@settings(deadline=None)
@given(fragments("<think>", "</think>", "<", "a", "b", "\n", " "), st.sampled_from(["assistant\n", _OPENED]))
def test_only_tags_and_white_space_are_lost(text: str, tail: str) -> None:
    reasoning, content = _split([text], tail)
    kept = sorted((reasoning + content).replace("</think>", "").replace(" ", "").replace("\n", ""))
    assert kept == sorted(text.replace("<think>", "").replace("</think>", "").replace(" ", "").replace("\n", ""))


def test_content_is_given_as_it_comes() -> None:
    parser = ThinkParser(ReasoningContext(prompt_tail="assistant\n", template_kwargs={}))
    assert [parser.feed(piece).content for piece in ("Hel", "lo ", "you")] == ["Hel", "lo ", "you"]
