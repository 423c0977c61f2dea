"""Measures that no format's answer depends on how it is cut: ``python -m tests.parsers.invariance_table DATE``.

Writes the last section of docs/compatibility.md. A format that fails is an error, not a row.
"""

from __future__ import annotations

import random
import sys
from multiprocessing import Pool
from pathlib import Path

from hookline.commands.plugins_matrix import KEPT
from tests.parsers.cases import logical_cases
from tests.parsers.formats import FORMATS, names
from tests.parsers.test_formats import _check_end, _check_whole, _read, _ways

FILE = Path(__file__).parents[2] / "docs" / "compatibility.md"
HEAD = "## How answers are cut"
#: Random cuts of each case, and positions at which it ends; the slow tests take 200, and all.
_NUM_RANDOM = 60
_NUM_ENDS = 25


def section(date: str) -> str:
    """The section, measured now."""
    lines = [
        HEAD,
        "",
        f"Measured on {date} with `python -m tests.parsers.invariance_table`: each case is rendered in the format, and",
        f"read whole, by character, by token of two tokenizers and in {_NUM_RANDOM} random cuts; then ended at",
        f"{_NUM_ENDS} positions. Joined, the answers are equal; the arguments of complete calls are JSON, and are",
        "those that were rendered. `make test-all` takes 200 random cuts and every position.",
        "",
        "| format | cases | answers read | positions of an end | equal |",
        "| --- | --- | --- | --- | --- |",
    ]
    with Pool() as pool:
        lines += pool.map(_row, range(len(FORMATS)), chunksize=1)
    return "\n".join(lines) + "\n"


def _row(at: int) -> str:
    form, name = FORMATS[at], names()[at]
    cases = logical_cases(form.quotable)
    num_ways = num_ends = 0
    for case in cases:
        text, whole = _check_whole(form, case)
        for pieces in _ways(text, _NUM_RANDOM):
            assert _read(form, case, pieces) == whole, (name, case.name, pieces)
            num_ways += 1
        ends = random.Random(text).sample(range(len(text) + 1), min(_NUM_ENDS, len(text) + 1))
        for end in ends:
            _check_end(form, case, text, end)
        num_ends += len(ends)
    return f"| `{name}` | {len(cases)} | {num_ways:,} | {num_ends:,} | all |"


if __name__ == "__main__":
    FILE.write_text(FILE.read_text().partition(KEPT)[0].rstrip() + f"\n\n{KEPT}\n\n" + section(sys.argv[1]))
