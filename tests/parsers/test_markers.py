from __future__ import annotations

import pytest
from hypothesis import given, settings

from hookline.formats.markers import Markers
from hookline.testkit.splits import cut, fragments


def _read(markers: Markers, pieces: list[str]) -> list[str]:
    """Markers and the texts between them; neighbouring texts joined."""
    parts, held = [""], ""
    for piece in [*pieces, None]:
        rest = held + (piece or "")
        while True:
            before, marker, rest = markers.split(rest)
            parts[-1] += before
            if marker is None:
                break
            parts += [marker, ""]
        held = rest
    parts[-1] += held
    return parts


@settings(deadline=None)
@given(cut(fragments("<", "<a", "<ab>", "b>", ">", "</ab>", "x", "ab", "<<", "<a<ab>")))
def test_cuts_do_not_change_what_is_found(case: tuple[str, list[str]]) -> None:
    text, pieces = case
    markers = Markers("<ab>", "</ab>", "ab>x")
    assert _read(markers, pieces) == _read(markers, [text])
    assert "".join(_read(markers, pieces)) == text


def test_only_a_tail_that_may_become_a_marker_is_held() -> None:
    markers = Markers("<think>")
    assert markers.split("a < b") == ("a < b", None, "")
    assert markers.split("a <thi") == ("a ", None, "<thi")
    assert markers.split("a <thi<") == ("a <thi", None, "<")


def test_markers_that_contain_each_other_are_refused() -> None:
    with pytest.raises(AssertionError, match="nest"):
        Markers("<a>", "<<a>>")
