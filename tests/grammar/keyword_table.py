"""``python -m tests.grammar.keyword_table``: writes the table of keywords into docs/structured-output.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from hookline.errors import RequestError
from hookline.interfaces.grammar import GrammarBackend
from hookline.testkit.grammar_walks import environment
from hookline.testkit.vocabularies import byte_level
from hookline_grammar import outlines
from hookline_grammar.llguidance import LLGuidanceBackend
from hookline_grammar.xgrammar import XGrammarBackend
from tests.grammar.schema_corpus import SchemaCase, corpus

COMMAND = "python -m tests.grammar.keyword_table"
PAGE = Path(__file__).parents[2] / "docs" / "structured-output.md"
_BEGIN = "<!-- begin of the generated table -->\n"
_DATED = "As of "
_END = "<!-- end of the generated table -->\n"


def table() -> str:
    """For each keyword, how many of the corpus' schemas each backend takes."""
    env = environment(byte_level())
    compiling: dict[str, GrammarBackend] = {"xgrammar": XGrammarBackend(env), "llguidance": LLGuidanceBackend(env)}
    counts: dict[str, dict[str, list[bool]]] = {}
    for case in corpus():
        row = counts.setdefault(case.keyword, {})
        for name, backend in compiling.items():
            row.setdefault(name, []).append(_takes(partial(backend.compile, "json_schema"), case))
        # Its automata take too long to build here; the check before them says what it refuses.
        row.setdefault("outlines", []).append(_takes(outlines.SCHEMAS.parse, case))
    names = [*compiling, "outlines"]
    lines = [f"| keyword | {' | '.join(f'`{name}`' for name in names)} |", "| --- |" + " --- |" * len(names)]
    for keyword in sorted(counts):
        cells = [_cell(counts[keyword][name]) for name in names]
        label = f"`{keyword}`" if keyword != "everyday" else "(everyday schemas)"
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def regenerated() -> str:
    """The page with the present table, and the date on which it changed last."""
    head, rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    old, tail = rest.split(_END)
    new = table()
    dated = re.fullmatch(rf"{_DATED}(\d{{4}}-\d\d-\d\d):\n\n(.*)", old, re.DOTALL)
    date = dated[1] if dated is not None and dated[2] == new else datetime.now(tz=UTC).date().isoformat()
    return f"{head}{_BEGIN}{_DATED}{date}:\n\n{new}{_END}{tail}"


def _takes(compile_source: Callable[[str], object], case: SchemaCase) -> bool:
    try:
        compile_source(json.dumps(case.schema))
    except RequestError:
        return False
    return True


def _cell(taken: list[bool]) -> str:
    if all(taken):
        return "enforced"
    if not any(taken):
        return "refused"
    return f"enforced in {sum(taken)} of {len(taken)}, else refused"


if __name__ == "__main__":
    PAGE.write_text(regenerated(), encoding="utf-8")
