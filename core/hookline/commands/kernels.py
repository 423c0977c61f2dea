"""``hookline kernels``: compile kernels before an engine needs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hookline.commands.bench.report import publish, report_options
from hookline.commands.bench.shape_option import shape_option
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig

if TYPE_CHECKING:
    from hookline.prebuild import Prebuilt


@click.group()
def kernels() -> None:
    """Compile kernels before an engine needs them."""


@configured_command(common=(*ENGINE_SETTINGS, "kernel_cache_dir"), takes_model=True)
@shape_option
@click.option("--no-warm-up", is_flag=True, help="only what plugins name; start no engine")
@report_options
def prebuild(loaded: LoadedConfig, no_warm_up: bool, as_json: bool, output: Path | None) -> None:
    """Fill the kernel caches for a model: what plugins name, side by side, then an engine with made-up weights that
    runs every kind of pass. What is cached already takes no time."""
    from hookline.bench.surroundings import surroundings

    rows = list(_prebuilt(loaded, warms_up=not no_warm_up))
    values = {**surroundings(loaded), "prebuilt": [asdict(row) for row in rows]}
    table = [{"what": row.what, "seconds": f"{row.seconds:.1f}", "result": row.result} for row in rows]
    publish(
        values, table or [{"what": "nothing is named", "seconds": "0.0", "result": ""}], as_json=as_json, output=output
    )


def _prebuilt(loaded: LoadedConfig, *, warms_up: bool) -> Iterator[Prebuilt]:
    from hookline.config.resolve import resolve_engine
    from hookline.plugins.manager import load_plugins
    from hookline.prebuild import build_named, warm_up

    plan = resolve_engine(loaded.config, load_plugins(loaded.config))
    for row in chain(build_named(plan), warm_up(loaded) if warms_up else ()):
        click.echo(f"{row.what}: {row.seconds:.1f} s, {row.result}", err=True)
        yield row


kernels.add_command(prebuild)
