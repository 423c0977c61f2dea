"""``hookline bench host``."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path

import click

from hookline.commands.bench.report import publish, report_options
from hookline.commands.bench.shape_option import shape_option
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@shape_option(with_tokenizer=True)
@click.option("--requests", type=click.IntRange(min=1), default=256, show_default=True, help="that decode together")
@click.option("--input-len", type=click.IntRange(min=1), default=128, show_default=True, help="prompt tokens of each")
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="of a round")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="the best counts")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="0: greedy")
@click.option(
    "--schemas", type=click.IntRange(min=0), default=0, show_default=True, help="JSON schemas of the requests; 0: none"
)
@report_options
def host(
    loaded: LoadedConfig,
    requests: int,
    input_len: int,
    steps: int,
    rounds: int,
    temperature: float,
    schemas: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Time the host's part of a decode step by stage: a whole scheduler on a device that computes nothing.

    MODEL gives the vocabulary and the settings; its weights are not loaded.
    """
    from hookline.bench.host import HostLoad, measure_host
    from hookline.bench.surroundings import surroundings
    from hookline.config.resolve import resolve_engine
    from hookline.plugins.manager import load_plugins

    plan = resolve_engine(loaded.config, load_plugins(loaded.config))
    load = HostLoad(
        requests=requests,
        input_len=input_len,
        steps=steps,
        rounds=rounds,
        temperature=temperature,
        schemas=min(schemas, requests),
    )
    result = measure_host(plan, load)
    rows = [
        {
            "stage": name,
            "us_per_step": round(1e6 * seconds, 1),
            "us_per_request": round(1e6 * seconds / requests, 3),
            "share": f"{seconds / result.seconds:.0%}",
        }
        for name, seconds in [*result.stages.items(), ("all", result.seconds)]
    ]
    values = {
        **surroundings(loaded),
        **asdict(load),
        "page_size": plan.config.cache.page_size,
        "us_per_step": round(1e6 * result.seconds, 1),
        "us_per_step_median": round(1e6 * statistics.median(result.rounds), 1),
        "rounds_us": [round(1e6 * seconds, 1) for seconds in result.rounds],
        **({"compile_s": round(result.compile_seconds, 2)} if schemas else {}),
        "stages": rows[:-1],
    }
    publish(values, rows, as_json=as_json, output=output)
