"""``hookline bench``: measure the engine, the server, and what lies between them."""

from __future__ import annotations

import click

from hookline.commands.bench.frontend import frontend
from hookline.commands.bench.grammar import grammar
from hookline.commands.bench.host import host
from hookline.commands.bench.offline import offline
from hookline.commands.bench.overhead import overhead
from hookline.commands.bench.serving import serving
from hookline.commands.bench.startup import startup
from hookline.commands.bench.vision import vision


@click.group()
def bench() -> None:
    """Measure the engine, the server, and what lies between them."""


for _command in (offline, serving, grammar, host, frontend, startup, overhead, vision):
    bench.add_command(_command)
