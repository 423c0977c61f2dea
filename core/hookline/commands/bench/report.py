"""What the measurements print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from hookline.errors import ConfigError


def report_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options ``as_json`` and ``output`` of a measurement."""
    for option in (
        click.option(
            "--output", type=click.Path(path_type=Path), metavar="FILE", help="write the JSON object there too"
        ),
        click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of the table"),
    ):
        function = option(function)
    return function


def publish(
    values: Mapping[str, Any], table: Sequence[Mapping[str, Any]], *, as_json: bool, output: Path | None = None
) -> None:
    """Print the table or the JSON object, and write the object to ``output``.

    Raises ``ConfigError`` when the file cannot be written, after printing.
    """
    text = json.dumps(values, indent=2)
    if as_json:
        click.echo(text)
    else:
        print_table(table)
    if output is not None:
        try:
            output.write_text(text + "\n")
        except OSError as exc:
            raise ConfigError(f"the report cannot be written to '{output}': {exc.strerror}") from exc


def print_rows(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Facts that hold for all rows in one line, then the rows."""
    if as_json:
        click.echo(json.dumps({**facts, "results": rows}, indent=2))
        return
    click.echo(", ".join(f"{name} {value}" for name, value in facts.items()))
    print_table(rows)


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys."""
    titles = list(rows[0])
    widths = [max(len(title), *(len(str(row[title])) for row in rows)) for title in titles]
    for line in ([str(title) for title in titles], *([str(row[title]) for title in titles] for row in rows)):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
