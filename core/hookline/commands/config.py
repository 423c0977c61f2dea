"""``hookline config``: what the settings are, where they come from, and whether a file is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hookline.commands.options import configured_command
from hookline.config.schema import HooklineConfig
from hookline.config.secrets import redact
from hookline.config.settings import Setting, all_settings, section_help
from hookline.config.sources import LoadedConfig, load_config
from hookline.config.toml import toml_key, toml_value
from hookline.errors import ConfigError, HooklineError
from hookline.plugins.manager import load_plugins
from hookline.plugins.options import check_options, load_config_model


@click.group()
def config() -> None:
    """Show, validate, describe or begin a configuration."""


@configured_command(takes_model=True)
@click.option("--origin", is_flag=True, help="say where each value comes from")
@click.option("--resolved", is_flag=True, help="fill in what a start with this configuration would choose")
@click.option("--json", "as_json", is_flag=True, help="as JSON")
def show(loaded: LoadedConfig, origin: bool, resolved: bool, as_json: bool) -> None:
    """Print the configuration that results from all sources, secrets hidden."""
    values = redact(loaded.config.model_dump())
    reasons: dict[str, str] = {}
    if resolved:
        from hookline.config.resolve import resolve_engine

        plan = resolve_engine(loaded.config, load_plugins(loaded.config), for_server=True)
        values = redact(plan.config_values)
        reasons = {path: f"resolved: {reason}" for path, _, reason in plan.resolved}
    settings = all_settings()
    origins = {path: reasons.get(path, str(loaded.origin_of(path))) for path in settings}
    if as_json:
        shown: Any = {"values": values, "origins": origins} if origin else values
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(_as_toml(values, settings, origins if origin else {})))


@config.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def validate(files: tuple[str, ...]) -> None:
    """Check files, in the order given, against the schema and the options of the installed plugins.

    Prints every fault with its place; the exit status is 1 if there is any. Starts and loads nothing.
    """
    problems: list[str] = []
    loaded = None
    try:
        loaded = load_config(files=files, environ={})
        check_options(loaded.config.plugins, load_plugins(loaded.config, strict=False))
    except HooklineError as exc:
        problems.extend(str(exc).splitlines())
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise click.exceptions.Exit(1)
    assert loaded is not None
    click.echo(f"{', '.join(files)}: valid, {len(loaded.origins)} settings")


@config.command()
def schema() -> None:
    """Print the JSON schema of configuration files, with the options of the installed plugins."""
    document = HooklineConfig.model_json_schema()
    options: dict[str, Any] = {}
    definitions = document.setdefault("$defs", {})
    for plugin in load_plugins(strict=False).plugins:
        model = load_config_model(plugin)
        if model is not None:
            described = model.model_json_schema(ref_template=f"#/$defs/{plugin.name}.{{model}}")
            for name, definition in described.pop("$defs", {}).items():
                definitions[f"{plugin.name}.{name}"] = definition
            options[plugin.name] = described
    document["properties"]["plugins"]["properties"] = options
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@config.command()
@click.argument("file", required=False)
def init(file: str | None) -> None:
    """Write a configuration file (TOML) with every setting commented out at its default; no FILE prints it."""
    text = "\n".join(_initial())
    if file is None:
        click.echo(text)
        return
    path = Path(file)
    if path.suffix != ".toml":
        raise ConfigError(f"'{file}' must end in .toml")
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(text + "\n")
    except FileExistsError:
        raise ConfigError(f"'{file}' is already there; remove it or name another file") from None
    except OSError as exc:
        raise ConfigError(f"cannot write '{file}': {exc.strerror}") from exc
    click.echo(f"wrote {file}; `hookline serve --config {file}` uses it")


config.add_command(show)


def _as_toml(values: dict[str, Any], settings: dict[str, Setting], origins: dict[str, str]) -> list[str]:
    lines = []
    section = ""
    # Settings outside sections must stand first in TOML.
    for path, setting in sorted(settings.items(), key=lambda item: item[1].section != ""):
        if setting.section != section:
            section = setting.section
            lines.extend(["", f"[{section}]"])
        value = values[setting.section][setting.leaf] if setting.section else values[setting.leaf]
        line = f"{toml_key(setting.leaf)} = {toml_value(value)}"
        lines.append(f"{line:<48}  # {origins[path]}" if path in origins else line)
    return lines


def _initial() -> list[str]:
    settings = all_settings()
    lines = [
        "# Settings of Hookline. Each commented line shows a default; remove the # to change it.",
        '# "none" stands for null. `hookline config validate FILE` checks this file.',
        "schema_version = 1",
        "",
        "# Plugins that must be installed and work, and plugins that are not loaded.",
        "# required_plugins = []",
        "# disabled_plugins = []",
    ]
    section = ""
    for setting in settings.values():
        if not setting.section:
            continue
        if setting.section != section:
            section = setting.section
            lines.extend(["", f"# {section_help(section)}", f"[{section}]"])
        lines.append(f"# {setting.description}: {setting.expected}")
        lines.append(f"# {setting.leaf} = {toml_value(setting.default)}")
    return lines
