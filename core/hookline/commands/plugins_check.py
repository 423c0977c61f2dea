"""``hookline plugins check``: the report on every installed plugin."""

from __future__ import annotations

import dataclasses
import json

import click

from hookline.commands.options import configured_command
from hookline.config.sources import LoadedConfig
from hookline.plugins.check import CheckReport, OfferCheck, PluginCheck, check_plugins
from hookline.plugins.manager import load_plugins

_IMPORTS = {True: "imports", False: "does not import", None: ""}


@configured_command()
@click.argument("name", required=False)
@click.option("--load", is_flag=True, help="import every implementation too (slow: this imports torch)")
@click.option("--json", "as_json", is_flag=True, help="as JSON")
def check(loaded: LoadedConfig, name: str | None, load: bool, as_json: bool) -> None:
    """Check all plugins, or one: whether it loads, its contract, conflicts with others, its options, what its
    offers would take to run here, and with --load its implementations.

    The exit status is 1 if anything is wrong. What this machine lacks is told, and is nothing wrong.
    """
    report = check_plugins(load_plugins(loaded.config, strict=False), loaded.config, name=name, load=load)
    if as_json:
        click.echo(json.dumps({"ok": not report.faults, **dataclasses.asdict(report)}, indent=2))
    else:
        _print_report(report, load=load)
    if report.faults:
        raise click.exceptions.Exit(1)


def _print_report(report: CheckReport, *, load: bool) -> None:
    for plugin in report.plugins:
        what = "implementations imported" if load else "contract checked"
        suffix = f" ({what})" if plugin.status in ("ok", "failed") else ""
        click.echo(f"{plugin.name:<14} {plugin.distribution} {plugin.version}: {plugin.status}{suffix}")
        _print_plugin(plugin)
    for fault in report.faults:
        click.echo(f"fault: {fault}", err=True)


def _print_plugin(plugin: PluginCheck) -> None:
    if plugin.api_version is not None:
        options = f"options {', '.join(plugin.options)}" if plugin.options else "no options"
        click.echo(f"  plugin contract {plugin.api_version}, {options}")
    for offer in plugin.offers:
        _print_offer(offer)
    for sentence in plugin.deprecated:
        click.echo(f"  deprecated: {sentence}")
    for sentence in plugin.notes:
        click.echo(f"  note: {sentence}")


def _print_offer(offer: OfferCheck) -> None:
    here = "cannot run here" if offer.unmet else "can run here"
    parts = [f"contract {offer.api_version}", _IMPORTS[offer.is_imported], "at fault" if offer.faults else here]
    click.echo(f"  {offer.kind} '{offer.name}': {', '.join(part for part in parts if part)}")
    for item in offer.unmet:
        click.echo(f"    {item.reason}; it would take: {item.remedy}")
