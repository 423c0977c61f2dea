"""Markdown: what the generated parts of the documents are made of, and how they get into their files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def prose(text: str) -> str:
    """A docstring as Markdown: code in single backticks, and no tags by accident."""
    code = re.sub(r"``([^`]+)``", r"`\1`", text)
    parts = code.split("`")
    # Every second part stands between backticks.
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def put(document: str, name: str, body: str) -> str:
    """The document with the part between its markers ``<!-- generated: NAME -->`` and ``<!-- end -->`` replaced."""
    pattern = re.compile(rf"(<!-- generated: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    replaced, count = pattern.subn(lambda match: f"{match[1]}\n{body.strip()}\n\n{match[2]}", document)
    assert count == 1, f"{count} parts with the marker 'generated: {name}'"
    return replaced
