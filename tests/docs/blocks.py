"""Blocks: what a document shows as code, so that tests run it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]*)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block."""

    language: str
    #: What stands above it when the page is built, "" if nothing does.
    title: str
    text: str
    #: "writing-a-plugin.md:12".
    place: str
    #: The heading that it stands under.
    heading: str


def blocks_of(document: Path) -> list[Block]:
    """All fenced blocks, in order."""
    text = document.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", before, flags=re.MULTILINE | re.DOTALL), re.M)
        found.append(
            Block(
                language=match["language"],
                title=match["title"] or "",
                text=match["text"],
                place=f"{document.name}:{before.count(chr(10)) + 1}",
                heading=headings[-1] if headings else "",
            )
        )
    return found
