"""expanded_length."""

from __future__ import annotations

import pytest

from hookline.text.regex_size import expanded_length


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        ("", 0),
        ("abc", 3),
        (r"a\d[x-z].", 4),
        ("a{3}", 3),
        ("a{2,5}b", 6),
        ("a{2,}", 2),
        ("a{,7}", 7),
        ("a{0}b", 2),
        ("(ab){10}", 20),
        # The colon counts, too.
        ("(?:a(bc){3}){100}d", 801),
        ("(a|bb){2}+", 6),
        ("^a*b+?$", 2),
        (r"[\]{]{2}\{[]}]", 4),
        (r"\N{DIGIT ONE}{4}", 4),
        ("(){1000}", 1000),
    ],
)
def test_repeats_are_written_out(pattern: str, length: int) -> None:
    assert expanded_length(pattern) == length


@pytest.mark.parametrize("pattern", ["a{x}", "a{}", "a{,}", "(?x)a b", "(?i-s)(?sx:a)", "a(?#b)", "a)", "{"])
def test_what_cannot_be_measured_is_an_error(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"must be written|not allowed|not opened"):
        expanded_length(pattern)
