"""``hookline bench overhead``."""

from __future__ import annotations

import click

from hookline.commands.bench.report import print_rows
from hookline.commands.bench.workload_options import WorkloadChoice, workload_options
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@workload_options(default="mixed")
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="the best counts")
@click.option(
    "--first-tokens", type=click.IntRange(min=1), default=20, show_default=True, help="requests sent one by one"
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def overhead(
    loaded: LoadedConfig, workloads: WorkloadChoice, repetitions: int, first_tokens: int, as_json: bool
) -> None:
    """Run a workload through an Engine in this process and, in turns, over HTTP on a server started for it."""
    from hookline.bench.overhead import measure_overhead

    name, result = measure_overhead(loaded, workloads.make_one, repetitions=repetitions, num_first_tokens=first_tokens)
    rows = [
        {
            "way": row.name,
            "seconds": round(row.seconds, 4),
            "requests_per_s": round(row.request_rate, 1),
            "output_tokens_per_s": round(row.output_rate, 1),
            "ttft_ms": None if row.ttft is None else round(1000 * row.ttft, 2),
            "engine_ratio": round(row.request_rate / result[0].request_rate, 3),
        }
        for row in result
    ]
    facts = {"workload": name, "repetitions": repetitions, "first_tokens": first_tokens}
    print_rows(facts, rows, as_json=as_json)
