"""StopMatcher against slow and obvious definitions."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookline.errors import RequestError
from hookline.text import stops as stops_module
from hookline.text.stop_regex import StopRegex
from hookline.text.stops import StopMatch, StopMatcher

PIECES = st.lists(st.text("ab\n", max_size=4), max_size=12)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=5), min_size=1, max_size=4)


def feed_all(matcher: StopMatcher, pieces: list[str]) -> StopMatch | None:
    for piece in pieces:
        match = matcher.feed(piece)
        if match is not None:
            return match
    return None


def first_stop(text: str, stops: list[str]) -> tuple[int, int, str] | None:
    """(end, start, stop) of the stop that ends first; of those that end together, the longest."""
    places = [
        (start + len(stop), start, stop) for stop in stops for start in range(len(text)) if text.startswith(stop, start)
    ]
    return min(places, default=None)


# --- strings ---


@given(pieces=PIECES, stops=STOPS)
def test_the_stop_that_ends_first_is_found_however_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    expected = first_stop(text, stops)
    match = feed_all(StopMatcher(stops), pieces)
    assert match == feed_all(StopMatcher(stops), list(text))
    if expected is None:
        assert match is None
    else:
        end, start, stop = expected
        assert match == StopMatch(start=start, end=end, text=stop, stop=stop)


@given(pieces=PIECES, stops=STOPS)
def test_withheld_is_the_longest_end_that_begins_a_stop(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    text = ""
    for piece in pieces:
        text += piece
        matcher.feed(piece)
        begun = [size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
        assert matcher.withheld == max(begun, default=0)


@given(pieces=PIECES, stops=STOPS)
def test_a_match_that_is_ignored_does_not_hide_later_ones(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    text = ""
    for piece in pieces:
        before, text = len(text), text + piece
        match = matcher.feed(piece)
        ends = [end for end in range(before + 1, len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
        assert (None if match is None else match.end) == (ends[0] if ends else None)


def test_long_text_is_not_kept() -> None:
    matcher = StopMatcher(["abc"])
    for _ in range(1000):
        matcher.feed("xyzab")
    assert len(matcher._text) == 2
    match = matcher.feed("c")
    assert match is not None
    assert (match.start, match.end) == (4998, 5001)


def test_nothing_to_find_withholds_nothing() -> None:
    matcher = StopMatcher()
    assert matcher.feed("anything") is None
    assert matcher.withheld == 0


# --- regexes ---


@pytest.mark.parametrize(
    ("pattern", "pieces", "expected"),
    [
        (r"\d{3}", ["a1", "2", "345"], (1, 4)),
        (r"\n+User", ["x\n", "\nUs", "er"], (1, 7)),
        (r"(?<=x)ab", ["x", "a", "b"], (1, 3)),
        (r"a(?=b)", ["a", "b"], (0, 1)),
        (r"foo.*bar", ["a foo", " xx ", "bar"], (2, 12)),
        (r"(?i)stop", ["ST", "oP"], (0, 4)),
        (r"[.!?]\s", ["Hi", "!", " x"], (2, 4)),
        (r"end$", ["the en", "d"], (4, 7)),
        (r"a|.\b", [" ", "a"], (0, 1)),
        (r"[]b]\b", ["]", "x"], (0, 1)),
    ],
)
def test_a_regex_is_found_across_pieces(pattern: str, pieces: list[str], expected: tuple[int, int]) -> None:
    match = feed_all(StopMatcher([], [pattern]), pieces)
    assert match is not None
    assert (match.start, match.end) == expected
    assert match.stop == pattern
    assert match.text == "".join(pieces)[slice(*expected)]


ITEMS = st.sampled_from(
    ["a", "b", "[ab]", ".", "a?", "b*", "(?:ab)+", "(a|b)", "a{1,2}", r"\b", "(?=a)", "(?<=b)", "$"]
)
PATTERNS = (
    st.lists(ITEMS, min_size=1, max_size=4)
    .map("".join)
    .flatmap(lambda left: st.lists(ITEMS, max_size=3).map(lambda right: left + ("|" + "".join(right) if right else "")))
    .filter(lambda pattern: re.search(pattern, "") is None)
)


@given(pieces=st.lists(st.text("ab ", min_size=1, max_size=3), max_size=10), pattern=PATTERNS)
@settings(deadline=None)
def test_a_regex_stops_at_the_first_piece_that_completes_a_match(pieces: list[str], pattern: str) -> None:
    matcher = StopMatcher([], [pattern])
    text = ""
    shown = 0
    for piece in pieces:
        text += piece
        match = matcher.feed(piece)
        expected = re.search(pattern, text)
        assert (match is None) == (expected is None)
        if match is not None and expected is not None:
            assert (match.start, match.end) == expected.span()
            # What was shown before cannot be part of the match.
            assert match.start >= shown
            return
        shown = max(shown, len(text) - matcher.withheld)


def test_strings_and_regexes_compete_by_their_end() -> None:
    match = feed_all(StopMatcher(["cd"], [r"b."]), ["abcd"])
    assert match is not None
    assert (match.start, match.end, match.stop) == (1, 3, "b.")
    match = feed_all(StopMatcher(["ab"], [r"b."]), ["abcd"])
    assert match is not None
    assert match.stop == "ab"


def test_a_regex_match_that_is_ignored_is_found_again_later() -> None:
    matcher = StopMatcher([], [r"\d"])
    found = [matcher.feed(piece) for piece in ["a1", "b", "c2", "3"]]
    assert [None if match is None else match.text for match in found] == ["1", None, "2", "3"]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "does not compile"),
        ("a{2,1}", "does not compile"),
        (r"\p{L}", "does not compile"),
        ("(?R)", "does not compile"),
        ("a*", "matches the empty text"),
        ("a" * 1025, "1025 characters; at most 1024"),
        ("(?:(?:(?:a{500}){500}){500}){500}", "at most 10000 are allowed"),
        ("(a{101}){100}", "at most 10000 are allowed"),
        (r"a{\d}", "must be written"),
        ("a{e<=1}", "must be written"),
        ("(?x)a b", "verbose"),
        ("a(?#x)", "comments"),
        ("a{99999999999999999999}", "does not compile"),
        ("(" * 600 + "a" + ")" * 400, "does not compile"),
    ],
)
def test_regexes_that_are_wrong_or_could_blow_up_are_refused(pattern: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        StopMatcher([], [pattern])
    assert caught.value.param == "stop_regex"
    assert caught.value.status_code == 400


@pytest.mark.parametrize("pattern", [r"\{done\}", "[{}]", r"\N{DIGIT ONE}", "[]a]b", r"[^\]]x", "a{3}b{2,}"])
def test_braces_and_classes_are_read_as_python_does(pattern: str) -> None:
    StopRegex(pattern)


def test_a_regex_that_takes_for_ever_fails_its_request() -> None:
    matcher = StopMatcher([], [r"(?:a|aa)+c"], regex_budget=0.05)
    with pytest.raises(RequestError, match="took too long"):
        matcher.feed("a" * 200)


@pytest.mark.parametrize(("seconds", "fails"), [(0.0009, False), (0.011, True)])
def test_only_slow_searches_use_up_the_time(monkeypatch: pytest.MonkeyPatch, seconds: float, fails: bool) -> None:
    clock = itertools.count(step=seconds)
    monkeypatch.setattr(stops_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    matcher = StopMatcher([], [r"\n+User:"])
    searches = (matcher.feed(" some text") for _ in range(1000))
    if fails:
        with pytest.raises(RequestError, match="took too long"):
            all(match is None for match in searches)
    else:
        assert all(match is None for match in searches)
