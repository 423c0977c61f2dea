"""``hookline plugins``: what is installed, whether it works, and why a plugin was chosen."""

from __future__ import annotations

import json
from typing import Any

import click

from hookline.commands.options import configured_command
from hookline.commands.plugins_check import check
from hookline.commands.plugins_matrix import matrix
from hookline.commands.plugins_new import new
from hookline.config.sources import LoadedConfig
from hookline.errors import PluginError
from hookline.interfaces.spec import Requirements, Spec
from hookline.plugins.kinds import SPEC_TYPES
from hookline.plugins.manager import load_plugins
from hookline.plugins.options import load_config_model
from hookline.plugins.registry import LoadedPlugin, Offer, Registry
from hookline.plugins.resolve import Resolution, details_of


@click.group()
def plugins() -> None:
    """List, show and check plugins, and say why one was chosen. Without --load nothing imports torch."""


@configured_command()
@click.option("--json", "as_json", is_flag=True, help="as JSON")
def list_command(loaded: LoadedConfig, as_json: bool) -> None:
    """List every installed plugin: loaded, broken or disabled, and what it offers."""
    registry = load_plugins(loaded.config, strict=False)
    if as_json:
        click.echo(json.dumps(registry.report(), indent=2))
    else:
        _print_list(registry)
    if not registry.plugins:
        raise PluginError("\n".join(registry.problems))


@configured_command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="as JSON")
def show(loaded: LoadedConfig, name: str, as_json: bool) -> None:
    """Show one plugin: its offers with requirements and features, and its options."""
    plugin = load_plugins(loaded.config, strict=False).plugin(name)
    described = _describe(plugin)
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    click.echo(f"{plugin.name}  {plugin.distribution} {plugin.version}  {plugin.info.summary}")
    click.echo(f"from {plugin.source_path or plugin.module.__file__}")
    for offer in described["offers"]:
        click.echo(f"\n{offer['kind']} '{offer['name']}'  {offer['summary']}")
        for key, value in offer.items():
            if key not in ("kind", "name", "summary") and value not in ({}, [], "", None):
                click.echo(f"  {key}: {_inline(value)}")
    if described["options"]:
        click.echo("\noptions:")
        for option, about in described["options"].items():
            click.echo(f"  plugins.{plugin.name}.{option}  {about}")


@configured_command(common=("model", "device", "dtype"))
@click.argument("kind", metavar="KIND")
@click.option("--json", "as_json", is_flag=True, help="as JSON")
def why(loaded: LoadedConfig, kind: str, as_json: bool) -> None:
    """Say which plugin of a KIND an engine would use, and why every other one is refused.

    Takes all settings: `--model path`, `--device cuda`, `--attention-backend name`, `--config FILE`.
    """
    from hookline.config.resolve import explain

    registry = load_plugins(loaded.config, strict=False)
    resolution, problem = explain(kind, loaded.config, registry)
    if as_json:
        click.echo(json.dumps(_resolution_as_data(resolution, problem), indent=2))
        return
    setting = f" ({resolution.wish.setting})" if resolution.wish.setting else ""
    click.echo(f"{kind}{setting}: {resolution.reason}")
    rows = [(f"+ {offer.spec.name}", offer.source, "chosen") for offer in resolution.chosen]
    rows += [(f"  {offer.spec.name}", offer.source, "fits, not needed") for offer in resolution.spare]
    for refusal in resolution.refusals:
        rows.append((f"- {refusal.offer.spec.name}", refusal.offer.source, "; ".join(refusal.reasons)))
    _print_rows(rows)
    for fault in (*map(str, registry.broken), *registry.problems):
        click.echo(f"problem: {fault}", err=True)
    if problem is not None:
        click.echo(f"note: {problem}", err=True)


list_command.name = "list"
for command in (new, list_command, show, check, why, matrix):
    plugins.add_command(command)


def _print_list(registry: Registry) -> None:
    rows = [("PLUGIN", "DISTRIBUTION", "OFFERS")]
    for plugin in registry.plugins:
        offers = [
            f"{kind}: {', '.join(offer.spec.name for offer in plugin.offers if offer.spec.kind == kind)}"
            for kind in SPEC_TYPES
            if any(offer.spec.kind == kind for offer in plugin.offers)
        ]
        rows.append((plugin.name, f"{plugin.distribution} {plugin.version}", offers[0] if offers else "nothing"))
        rows.extend(("", "", line) for line in offers[1:])
    rows += [(off.name, f"{off.distribution} {off.version}", "disabled") for off in registry.disabled]
    rows += [(item.name, f"{item.distribution} {item.version}", f"broken: {item.reason}") for item in registry.broken]
    if len(rows) > 1:
        _print_rows(rows)
    if registry.plugins:
        for problem in registry.problems:
            click.echo(f"problem: {problem}", err=True)


def _print_rows(rows: list[tuple[str, str, str]]) -> None:
    first = max((len(row[0]) for row in rows), default=0)
    second = max((len(row[1]) for row in rows), default=0)
    for row in rows:
        click.echo(f"{row[0]:<{first}}  {row[1]:<{second}}  {row[2]}".rstrip())


def _describe(plugin: LoadedPlugin) -> dict[str, Any]:
    model = load_config_model(plugin)
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "summary": plugin.info.summary,
        "offers": [_describe_offer(offer) for offer in plugin.offers],
        "options": {}
        if model is None
        else {name: f"{field.description or ''} [{field.default!r}]" for name, field in model.model_fields.items()},
    }


def _describe_offer(offer: Offer[Spec]) -> dict[str, Any]:
    spec = offer.spec
    requires = {
        name: sorted(value) if isinstance(value, frozenset) else dict(value) if name == "config" else value
        for name in Requirements.__dataclass_fields__
        if (value := getattr(spec.requires, name))
    }
    return {
        "kind": spec.kind,
        "name": spec.name,
        "summary": spec.summary,
        "target": spec.target,
        "api_version": spec.api_version,
        "priority": spec.priority,
        "requires": requires,
        "features": sorted(spec.features),
        "imposes": {kind: sorted(features) for kind, features in spec.imposes.items()},
        **details_of(spec),
    }


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_inline(inner)}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _resolution_as_data(resolution: Resolution, problem: str | None) -> dict[str, Any]:
    return {
        "kind": resolution.wish.kind,
        "requested": list(resolution.wish.names),
        "setting": resolution.wish.setting,
        "reason": resolution.reason,
        "chosen": [_describe_offer(offer) | {"source": offer.source} for offer in resolution.chosen],
        "spare": [offer.spec.name for offer in resolution.spare],
        "refused": {refusal.offer.spec.name: list(refusal.reasons) for refusal in resolution.refusals},
        "problem": problem,
    }
