from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hookline.testkit.fake_serving import END_ID, FakeServing
from hookline_api.chat.token_spans import TokenSpans


def test_a_token_ends_with_the_text_that_it_brought() -> None:
    spans = TokenSpans(FakeServing())
    spans.add(b"ab")
    assert spans.cut("ab") == [("a", 1), ("b", 1)]


def test_text_that_comes_later_is_waited_for() -> None:
    spans = TokenSpans(FakeServing())
    spans.add(b"abc")
    assert spans.cut("a") == [("a", 1)]
    assert spans.cut("bc", is_last=True) == [("b", 1), ("c", 1)]


def test_half_a_character_ends_with_what_came_before() -> None:
    spans = TokenSpans(FakeServing())
    spans.add("aé".encode())
    assert spans.cut("aé") == [("a", 1), ("", 1), ("é", 1)]


def test_tokens_without_text_end_where_they_stand() -> None:
    spans = TokenSpans(FakeServing())
    spans.add([97, END_ID, 98, END_ID])
    assert spans.cut("ab", is_last=True) == [("a", 1), ("", 1), ("b", 1), ("", 1)]


class _Words(FakeServing):
    """Tokens of several characters."""

    def token_bytes(self, token_id: int) -> bytes:
        return [b" Hello", b" there", b"\n\n"][token_id]


def test_a_token_whose_text_comes_in_two_parts_ends_with_the_second() -> None:
    spans = TokenSpans(_Words())
    spans.add([0, 1])
    assert spans.cut("Hello th") == [("Hello", 1), (" th", 0)]
    assert spans.cut("ere") == [("ere", 1)]


def test_a_token_that_was_cut_off_ends_with_the_last_text() -> None:
    spans = TokenSpans(_Words())
    spans.add([0, 1])
    assert spans.cut("Hello th", is_last=True) == [("Hello", 1), (" th", 0), ("", 1)]


def test_text_that_no_token_explains_is_kept() -> None:
    spans = TokenSpans(FakeServing())
    spans.add(b"ab")
    assert spans.cut("xyz", is_last=True) == [("", 1), ("", 1), ("xyz", 0)]


@given(st.text(max_size=20), st.lists(st.integers(0, 20), max_size=3))
def test_pieces_make_up_the_text_and_count_every_token_once(text: str, cuts: list[int]) -> None:
    ids = [*text.encode(), END_ID]
    spans = TokenSpans(FakeServing())
    spans.add(ids)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [piece for a, b in pairwise(places) for piece in spans.cut(text[a:b])]
    pieces += spans.cut("", is_last=True)
    assert "".join(piece for piece, _ in pieces) == text
    assert sum(count for _, count in pieces) == len(ids)
