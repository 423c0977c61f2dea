"""``hookline serve``: the HTTP server."""

from __future__ import annotations

import click

from hookline.commands.options import SERVER_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig


@configured_command(common=SERVER_SETTINGS, takes_model=True)
@click.option("--dry-run", is_flag=True, help="resolve everything, print what would be served, and stop")
def serve(loaded: LoadedConfig, dry_run: bool) -> None:
    """Serve MODEL over HTTP: a directory, a hub id, or the name of an installed checkpoint; without one, the
    demo model."""
    if dry_run:
        _print_plan(loaded)
        return
    from hookline.launch import serve as run

    raise click.exceptions.Exit(run(loaded))


def _print_plan(loaded: LoadedConfig) -> None:
    from hookline.config.resolve import resolve_engine
    from hookline.plugins.manager import load_plugins

    plan = resolve_engine(loaded.config, load_plugins(loaded.config), for_server=True)
    click.echo(f"model {plan.served_model_name} from {plan.model_path}")
    for path, value, origin in loaded.given():
        click.echo(f"  {path} = {value}  ({origin})")
    click.echo("resolved:")
    for path, value, reason in plan.resolved:
        click.echo(f"  {path} = {value}  ({reason})")
    click.echo("plugins:")
    for spec in plan.plugins.chosen:
        click.echo(f"  {spec.kind}: {spec.name}  ({spec.distribution} {spec.version})")
