"""Every command of ours that a document names is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hookline.cli import cli
from hookline.config.settings import all_settings
from hookline.plugins.kinds import SPEC_TYPES, spec_type_of
from hookline.scaffold.kinds import KINDS, kind_of
from tests.docs.blocks import blocks_of
from tests.workspace.test_layering import FOR_PLUGINS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("examples/plugins/*/README.md")),
]


def commands_in(document: Path) -> Iterator[str]:
    """In blocks: lines that begin with the command, alone or after variables or a prompt. In text: in backticks."""
    for block in blocks_of(document):
        if block.language in ("sh", "bash", "console", ""):
            text = re.sub(r"\\\n\s*", "", block.text)
            yield from re.findall(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*hookline (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", prose):
        if span.startswith("hookline "):
            yield " ".join(span.split()).removeprefix("hookline ")


def parse(command: str) -> None:
    """Parse a command line as the program does, and run nothing; ``click.UsageError`` says what is wrong."""
    # "[--origin]" is an option that may be left out, "FILE..." one or more.
    words = shlex.split(command.replace("[", "").replace("]", "").replace("...", ""))
    context: click.Context = click.Context(cli, info_name="hookline")
    node: click.Command = cli
    while isinstance(node, click.Group):
        if not words:
            return
        name, node, words = node.resolve_command(context, words)  # type: ignore[assignment]
        assert node is not None
        context = click.Context(node, info_name=name, parent=context)
    values, rest, _ = node.make_parser(context).parse_args(list(words))
    assert rest == []
    if node.name == "new" and values.get("kind_name", "KIND") != "KIND":
        kind_of(values["kind_name"])
    if node.name == "why" and values.get("kind", "KIND") != "KIND":
        spec_type_of(values["kind"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_parse(document: Path) -> None:
    wrong = []
    for command in commands_in(document):
        try:
            parse(command)
        except click.ClickException as exc:
            wrong.append(f"hookline {command}: {exc.format_message()}")
    assert wrong == []


def test_this_test_finds_commands_and_faults() -> None:
    assert sum(len(list(commands_in(document))) for document in DOCUMENTS) > 50
    for wrong in ("servee", "serve --no-such-flag", "plugins new x --kind nothing", "plugins why nothing"):
        with pytest.raises(Exception, match=r"servee|no-such-flag|nothing"):
            parse(wrong)


def flags_of_ours() -> set[str]:
    settings = all_settings().values()
    flags = {setting.flag for setting in settings}
    return flags | {f"--no-{setting.flag.removeprefix('--')}" for setting in settings if setting.is_bool}


def test_flags_for_those_who_migrate_exist() -> None:
    """The first column of the tables in docs/migrating.md, and what its text says of ours."""
    text = (ROOT / "docs" / "migrating.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    ours = [row[0] for row in rows] + [row[1] for row in rows if row[0].startswith("| `--tool-parser-plugin")]
    named = {flag for cell in ours for flag in re.findall(r"--[a-z][a-z-]+", cell)}
    assert len(named) > 40
    assert named - flags_of_ours() == set()


def test_settings_that_choose_a_kind_are_named_with_it() -> None:
    """The table in docs/plugins.md has every kind, and settings that exist."""
    text = (ROOT / "docs" / "plugins.md").read_text()
    table = text.split("## How one is chosen")[1].split("\n\n`auto` drops")[0]
    rows = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    kinds = {kind for row in rows for kind in re.findall(r"`(\w+)`", row)}
    assert kinds == set(SPEC_TYPES)
    named = set(re.findall(r"`(\w+\.\w+)`", table))
    assert named - {"config.json"} <= set(all_settings())


def test_every_kind_of_the_scaffold_is_named_where_one_begins() -> None:
    text = " ".join((ROOT / "docs" / "writing-a-plugin.md").read_text().split())
    *first, last = KINDS
    assert f"{', '.join(first)} and {last}" in text


def test_rules_name_what_plugins_may_import() -> None:
    rules = (ROOT / "docs" / "writing-a-plugin.md").read_text().split("## Rules")[1]
    named = set(re.findall(r"`(?:hookline)?\.(\w+)`", rules.split("never another plugin")[0]))
    assert named == FOR_PLUGINS - {"testkit"}
