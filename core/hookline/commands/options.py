"""Options of commands that take a configuration: every setting as a flag, and a help with topics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from hookline.config.settings import Setting, all_settings, by_leaf, section_help
from hookline.config.sources import LoadedConfig, load_config
from hookline.plugins.manager import ALL_PLUGINS

#: Settings in the short help of commands that run an engine.
ENGINE_SETTINGS = (
    "revision",
    "tokenizer",
    "max_model_len",
    "dtype",
    "device",
    "chat_template",
    "attention_backend",
    "memory_fraction",
    "kv_cache_tokens",
    "lora_adapters",
    "seed",
    "offline",
    "log_level",
)
#: Settings in the short help of ``serve``.
SERVER_SETTINGS = (
    "host",
    "port",
    "api_key",
    "served_model_name",
    *ENGINE_SETTINGS,
    "max_running_requests",
    "reasoning_parser",
    "tool_call_parser",
)

PRECEDENCE = (
    "Strongest first: flags, --set, environment HOOKLINE__SECTION__NAME, files (a later --config over an earlier "
    "one), defaults of the model's family, built-in defaults."
)

_SHORT, _ALL, _PLUGINS = "", "all", "plugins"


class ConfiguredCommand(click.Command):
    """A command with a flag for every setting. ``--help`` is short; ``--help TOPIC`` tells the rest."""

    def __init__(self, *args: Any, common: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._common = common

    def get_help_option(self, ctx: click.Context) -> click.Option:
        def show(ctx: click.Context, _: click.Parameter, topic: str | None) -> None:
            if topic is None or ctx.resilient_parsing:
                return
            click.echo(self._help(ctx, topic))
            ctx.exit()

        return click.Option(
            ["-h", "--help"],
            is_flag=False,
            flag_value=_SHORT,
            metavar="[TOPIC]",
            is_eager=True,
            expose_value=False,
            callback=show,
            help="all, a section, plugins, or a word to search for",
        )

    def get_help(self, ctx: click.Context) -> str:
        return self._help(ctx, _SHORT)

    def _help(self, ctx: click.Context, topic: str) -> str:
        formatter = ctx.make_formatter()
        settings = all_settings()
        sections = list(dict.fromkeys(setting.section for setting in settings.values() if setting.section))
        if topic == _SHORT:
            self._write_short(ctx, formatter, sections)
        elif topic == _PLUGINS:
            _write_plugin_options(formatter)
        elif topic == _ALL or topic in sections:
            for section in sections if topic == _ALL else [topic]:
                _write_settings(
                    formatter,
                    f"{section}: {section_help(section).rstrip('.')}",
                    [setting for setting in settings.values() if setting.section == section],
                )
        else:
            found = [setting for setting in settings.values() if setting.section and _mentions(setting, topic)]
            if not found:
                raise click.UsageError(f"no setting mentions '{topic}'; sections: {', '.join(sections)}")
            _write_settings(formatter, f"settings that mention '{topic}'", found)
        return formatter.getvalue().rstrip("\n")

    def _write_short(self, ctx: click.Context, formatter: click.HelpFormatter, sections: list[str]) -> None:
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        own = [param for param in self.get_params(ctx) if isinstance(param, click.Option) and not param.hidden]
        records = [record for param in own if (record := param.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(records)
        leaves = by_leaf(all_settings())
        if self._common:
            _write_settings(formatter, "Common settings", [leaves[name] for name in self._common])
        formatter.write_paragraph()
        formatter.write_text(f"More: --help all, --help SECTION ({', '.join(sections)}), --help plugins, --help WORD.")
        formatter.write_paragraph()
        formatter.write_text(PRECEDENCE)


def configured_command(
    *, common: Sequence[str] = (), takes_model: bool = False
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function whose first argument is the ``LoadedConfig``; the rest are its own options.

    ``common`` are leaf names for the short help; ``takes_model`` adds the argument MODEL.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        own: list[click.Parameter] = list(reversed(getattr(function, "__click_params__", [])))

        @functools.wraps(function)
        def callback(**values: Any) -> Any:
            loaded = _load(values)
            return function(loaded, **values)

        return ConfiguredCommand(
            name=function.__name__.removesuffix("_command").replace("_", "-"),
            callback=callback,
            params=[*own, *_source_options(takes_model), *_setting_options()],
            help=function.__doc__,
            common=common,
        )

    return decorate


def _source_options(takes_model: bool) -> Iterable[click.Parameter]:
    if takes_model:
        yield click.Argument(["model_argument"], required=False, metavar="[MODEL]")
    yield click.Option(["--config"], multiple=True, metavar="FILE", help="TOML, YAML or JSON file; may be repeated")
    yield click.Option(["--set"], multiple=True, metavar="SECTION.NAME=VALUE", help="one setting; may be repeated")
    yield click.Option(["--no-plugin"], multiple=True, metavar="NAME", help="do not load a plugin; may be repeated")
    yield click.Option(["--no-plugins"], is_flag=True, help="load no plugin at all")


def _setting_options() -> Iterable[click.Option]:
    for setting in all_settings().values():
        if setting.section == "" and setting.leaf == "plugins":
            # A table of tables has no flag; --set plugins.NAME.OPTION=VALUE is the way.
            continue
        if setting.is_bool:
            flags = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
            yield click.Option([setting.leaf, flags], default=None, hidden=True)
        else:
            yield click.Option([setting.leaf, setting.flag], multiple=setting.is_list or setting.is_table, hidden=True)


def _load(values: dict[str, Any]) -> LoadedConfig:
    """Take what belongs to the configuration out of a command's parameters, and load it."""
    flags: dict[str, str] = {}
    for leaf in by_leaf(all_settings()):
        value = values.pop(leaf, None)
        if isinstance(value, bool):
            flags[leaf] = str(value).lower()
        elif isinstance(value, tuple):
            if value:
                flags[leaf] = ",".join(value)
        elif value is not None:
            flags[leaf] = value
    model = values.pop("model_argument", None)
    if model is not None:
        if flags.get("model", model) != model:
            raise click.UsageError(f"the model is given twice: '{model}' and --model '{flags['model']}'")
        flags["model"] = model
    disable = [*values.pop("no_plugin"), *([ALL_PLUGINS] if values.pop("no_plugins") else [])]
    return load_config(files=values.pop("config"), sets=values.pop("set"), flags=flags, disable=disable)


def _write_settings(formatter: click.HelpFormatter, title: str, settings: Sequence[Setting]) -> None:
    with formatter.section(title):
        formatter.write_dl([(_usage_of(setting), _text_of(setting)) for setting in settings])


def _usage_of(setting: Setting) -> str:
    if setting.is_bool:
        return f"{setting.flag} / --no-{setting.flag.removeprefix('--')}"
    if setting.is_table:
        return f"{setting.flag} NAME=VALUE,..."
    return f"{setting.flag} {'A,B,...' if setting.is_list else 'VALUE'}"


def _text_of(setting: Setting) -> str:
    default = "none" if setting.default is None else str(setting.default)
    if setting.is_bool:
        return f"{setting.description} [{default.lower()}]"
    if setting.expected in ("a text", "a text or null"):
        return f"{setting.description} [{default}]"
    return f"{setting.description} [{default}; {setting.expected.replace('null', 'none')}]"


def _mentions(setting: Setting, word: str) -> bool:
    word = word.lower().replace("-", "_")
    return word in setting.path or word in setting.description.lower().replace("-", "_")


def _write_plugin_options(formatter: click.HelpFormatter) -> None:
    from hookline.plugins.manager import load_plugins
    from hookline.plugins.options import load_config_model

    described = False
    for plugin in load_plugins(strict=False).plugins:
        model = load_config_model(plugin)
        if model is None:
            continue
        described = True
        with formatter.section(f"plugins.{plugin.name} ({plugin.distribution} {plugin.version})"):
            formatter.write_dl(
                [
                    (f"--set plugins.{plugin.name}.{name}=VALUE", f"{field.description or ''} [{field.default}]")
                    for name, field in model.model_fields.items()
                ]
            )
    if not described:
        formatter.write_text("None of the installed plugins has options.")
