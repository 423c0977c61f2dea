"""Measures that no format's answer depends on how it is cut: ``python -m tests.parsers.invariance_table DATE``.

Writes the last section of docs/compatibility.md. A format that fails is an error, not a row.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.parsers.cases import logical_cases
from tests.parsers.formats import FORMATS, names
from tests.parsers.test_formats import _check_end, _check_whole, _read, _ways

FILE = Path(__file__).parents[2] / "docs" / "compatibility.md"
HEAD = "## How answers are cut"
_NUM_RANDOM = 200


def section(date: str) -> str:
    """The section, measured now."""
    lines = [
        HEAD,
        "",
        f"Measured on {date} with `python -m tests.parsers.invariance_table`: each case is rendered in the format, and",
        "read whole, by character, by token of two tokenizers and in 200 random cuts; then ended at every position.",
        "Joined, the answers are equal, and the arguments of complete calls are JSON and those that were rendered. No",
        "template came between: the formats are the parsers' own descriptions of public templates.",
        "",
        "| format | cases | answers read | positions of an end | equal |",
        "| --- | --- | --- | --- | --- |",
    ]
    for form, name in zip(FORMATS, names(), strict=True):
        cases = logical_cases(form.quotable)
        num_ways = num_ends = 0
        for case in cases:
            text, whole = _check_whole(form, case)
            for pieces in _ways(text, _NUM_RANDOM):
                assert _read(form, case, pieces) == whole, (name, case.name, pieces)
                num_ways += 1
            for end in range(len(text) + 1):
                _check_end(form, case, text, end)
                num_ends += 1
        lines.append(f"| `{name}` | {len(cases)} | {num_ways:,} | {num_ends:,} | all |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(FILE.read_text().partition(HEAD)[0].rstrip() + "\n\n" + section(sys.argv[1]))
