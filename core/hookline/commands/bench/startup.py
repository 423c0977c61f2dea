"""``hookline bench startup``."""

from __future__ import annotations

import json

import click

from hookline.commands.bench.report import print_table
from hookline.commands.bench.shape_option import shape_option
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig

_MIB = 1 << 20


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@shape_option
@click.option("--repetitions", type=click.IntRange(min=1), default=5, show_default=True, help="the median counts")
@click.option(
    "--idle-seconds", type=click.FloatRange(min=0), default=5.0, show_default=True, help="to watch an idle server"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def startup(loaded: LoadedConfig, repetitions: int, idle_seconds: float, as_json: bool) -> None:
    """Time `hookline serve` to its ready line, `plugins list` and `--help`; weigh the idle server's processes."""
    from hookline.bench.startup import measure_startup

    result = measure_startup(loaded, repetitions=repetitions, idle_seconds=idle_seconds)
    starts = [
        {
            "command": name,
            "first_s": round(result.seconds[name][0], 3),
            "median_s": round(median, 3),
            "best_s": round(min(result.seconds[name]), 3),
        }
        for name, median in result.medians().items()
    ]
    idle = [
        {
            "process": process.name,
            "rss_mib": round(process.rss / _MIB, 1),
            "pss_mib": None if process.pss is None else round(process.pss / _MIB, 1),
            "cpu_percent": round(100 * process.cpu, 2),
        }
        for process in result.idle
    ]
    if as_json:
        click.echo(json.dumps({"repetitions": repetitions, "starts": starts, "idle": idle}, indent=2))
        return
    print_table(starts)
    if idle:
        click.echo()
        print_table(idle)
