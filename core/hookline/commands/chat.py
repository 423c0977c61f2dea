"""``hookline chat``: talk to a model in the terminal, in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig
from hookline.errors import RequestError

if TYPE_CHECKING:
    from hookline.engine import Engine


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@click.option("--system", metavar="TEXT", help="system message")
@click.option("--temperature", type=float, help="0 is greedy; default: the model's")
@click.option("--thinking/--no-thinking", default=None, help="passed to the chat template as enable_thinking")
def chat(loaded: LoadedConfig, system: str | None, temperature: float | None, thinking: bool | None) -> None:
    """Chat with MODEL (default: the demo model). /reset forgets the conversation, /quit or Ctrl-D ends."""
    from hookline.engine import Engine

    params = {} if temperature is None else {"temperature": temperature}
    template_kwargs = {} if thinking is None else {"enable_thinking": thinking}
    start = [{"role": "system", "content": system}] if system else []
    with Engine.from_config(loaded, progress=sys.stderr.isatty()) as engine:
        click.echo(f"{engine.plan.served_model_name} is ready. /reset, /quit.", err=True)
        messages = list(start)
        for line in _lines():
            if line == "/reset":
                messages = list(start)
                continue
            messages.append({"role": "user", "content": line})
            try:
                answer = _answer(engine, messages, params, template_kwargs)
            except KeyboardInterrupt:
                click.echo("\n(stopped)", err=True)
                messages.pop()
            except RequestError as exc:
                click.echo(f"error: {exc}", err=True)
                messages.pop()
            else:
                messages.append({"role": "assistant", "content": answer})


def _lines() -> Iterator[str]:
    """What the user types, until /quit or the end of the input."""
    interactive = sys.stdin.isatty()
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line == "/quit":
            return
        if line:
            yield line


def _answer(
    engine: Engine, messages: list[dict[str, Any]], params: dict[str, Any], template_kwargs: dict[str, Any]
) -> str:
    """Print the answer as it comes, reasoning dimmed, and return its content."""
    content: list[str] = []
    reasoned = False
    for delta in engine.stream_chat(messages, params, chat_template_kwargs=template_kwargs):
        if delta.reasoning:
            reasoned = True
            click.echo(click.style(delta.reasoning, dim=True), nl=False)
        if delta.text:
            if reasoned and not content:
                click.echo()
            content.append(delta.text)
            click.echo(delta.text, nl=False)
    click.echo()
    return "".join(content)
