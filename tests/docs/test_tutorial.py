"""docs/writing-a-plugin.md, from its first command to its last, in a fresh environment beside released wheels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hookline.scaffold.distribution import render
from hookline.scaffold.kinds import KINDS
from hookline.scaffold.names import PluginNames
from tests.docs.blocks import Block, blocks_of
from tests.docs.fresh import give_third_party, offline
from tests.docs.generate import DOCS
from tests.docs.shell import Terminal
from tests.factories.released import Release

PAGE = DOCS / "writing-a-plugin.md"
#: Until here the page shows files as they were generated; from here on it changes them.
FIRST_CHANGE = "Change it"


@pytest.fixture
def terminal(tmp_path: Path, release: Release) -> Terminal:
    return Terminal(tmp_path, offline(release, tmp_path))


def test_the_tutorial_works_to_its_end(tmp_path: Path, terminal: Terminal, release: Release) -> None:
    was_changed = has_third_party = False
    try:
        for block in blocks_of(PAGE):
            was_changed = was_changed or block.heading == FIRST_CHANGE
            if block.language == "sh":
                terminal.run(block)
            elif block.language == "text":
                terminal.expect(block)
            elif block.title:
                show(terminal.folder / block.title, block, may_change=was_changed)
            else:
                assert block.language == "python", block.place
                exec(compile(block.text, block.place, "exec"), {})
            if not has_third_party and (tmp_path / "env").exists():
                give_third_party(tmp_path / "env", release)
                has_third_party = True
    finally:
        terminal.stop()


def show(file: Path, block: Block, *, may_change: bool) -> None:
    """Put what a block shows into its file, as its reader does."""
    if not may_change or file.suffix == ".toml":
        assert file.read_text() == block.text, f"{block.place} is not what was generated"
    file.write_text(block.text)


def test_the_tutorial_names_every_file_that_is_written() -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w./]+)`", row)}
    assert named == {str(path) for path in render(KINDS["policy"], PluginNames(name="shortest"))}
