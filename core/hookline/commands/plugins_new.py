"""``hookline plugins new``: begin a plugin."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

KIND_NAMES = "attention, model, ops, scheduler, policy, parser, grammar, pooler, lora, api, logits-processor"


@click.command()
@click.argument("name")
@click.option("--kind", "kind_name", required=True, metavar="KIND", help=f"what the plugin offers: {KIND_NAMES}")
@click.option("--directory", metavar="DIR", help="the new distribution's folder [./hookline-NAME]")
def new(name: str, kind_name: str, directory: str | None) -> None:
    """Write a new plugin distribution that works: package, options, conformance test, config file, README and CI.

    NAME is what users of the plugin write in a configuration: `my-policy` makes the distribution
    hookline-my-policy with the package hookline_my_policy. The implementation is naive and complete; replace it
    while the tests stay green.
    """
    from hookline.plugins.manager import load_plugins
    from hookline.scaffold.distribution import render, write
    from hookline.scaffold.kinds import kind_of
    from hookline.scaffold.names import checked_names

    kind = kind_of(kind_name)
    names = checked_names(name, kind, load_plugins(strict=False))
    folder = Path(directory or names.distribution)
    write(folder, render(kind, names))
    click.echo(f"wrote {kind.article} {kind.noun} '{name}' into {folder}. Next, install and test it:")
    click.echo(f"  cd {shlex.quote(str(folder))}")
    click.echo("  pip install -e '.[test]'")
    click.echo("  pytest")
    click.echo("README.md says how to serve with it, and what to edit.")
