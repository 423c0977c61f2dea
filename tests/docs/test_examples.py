"""What pages show of a terminal is what the commands print with the shipped plugins."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from hookline.cli import main
from tests.docs.blocks import Block, blocks_of

ROOT = Path(__file__).parents[2]
TERMINALS = [
    block for page in sorted((ROOT / "docs").glob("*.md")) for block in blocks_of(page) if block.language == "console"
]


@pytest.mark.parametrize("block", TERMINALS, ids=lambda block: block.place)
def test_commands_print_what_is_shown(
    block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOOKLINE_SOURCE_TREE", str(ROOT / "plugins"))
    monkeypatch.chdir(ROOT)
    for command, shown in re.findall(r"^\$ hookline (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
        with pytest.raises(SystemExit):
            main(shlex.split(command))
        printed = capsys.readouterr()
        assert printed.out + printed.err == shown


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "index.md"], ids=lambda path: path.name)
def test_the_first_lines_of_python_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLINE_SOURCE_TREE", str(ROOT / "plugins"))
    (block,) = (block for block in blocks_of(page) if block.language == "python")
    names: dict[str, Any] = {}
    exec(compile(block.text, block.place, "exec"), names)
    assert len(names["outputs"]) == 1
