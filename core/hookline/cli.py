"""``hookline``: the table of contents of its commands. Imports no command before it is called, and no torch."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import click

from hookline._version import __version__
from hookline.errors import HooklineError
from hookline.plugins.names import near_miss


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEntry:
    """Where a command lives, and its line in ``hookline --help``."""

    #: "package.module:command".
    target: str
    summary: str


COMMANDS: Mapping[str, CommandEntry] = MappingProxyType(
    {
        "serve": CommandEntry(target="hookline.commands.serve:serve", summary="start the HTTP server"),
        "generate": CommandEntry(target="hookline.commands.generate:generate", summary="complete prompts, offline"),
        "chat": CommandEntry(target="hookline.commands.chat:chat", summary="talk to a model in the terminal"),
        "plugins": CommandEntry(
            target="hookline.commands.plugins:plugins", summary="list, show, check plugins; why one was chosen"
        ),
        "config": CommandEntry(
            target="hookline.commands.config:config", summary="show, validate, describe or begin a configuration"
        ),
        "kernels": CommandEntry(
            target="hookline.commands.kernels:kernels", summary="compile kernels before an engine needs them"
        ),
        "bench": CommandEntry(target="hookline.commands.bench:bench", summary="measure the engine or a server"),
    }
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called; listings need no import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module_name, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = near_miss(args[0], COMMANDS)
            ctx.fail(f"unknown command '{args[0]}'{hint} (known: {', '.join(COMMANDS)})")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hookline", message="%(prog)s %(version)s")
def cli() -> None:
    """Serve language models. Everything but the core loop is a plugin: see `hookline plugins list`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit: 0 is success, 1 an error of ours, 2 a wrong command line."""
    try:
        code = cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.Abort:
        code = 130
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except HooklineError as exc:
        click.echo(f"error: {exc}", err=True)
        code = 1
    except BrokenPipeError:
        # The reader (`| head`) has enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
