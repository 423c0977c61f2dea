"""``hookline bench offline``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hookline.commands.bench.report import publish, report_options
from hookline.commands.bench.shape_option import shape_option
from hookline.commands.bench.workload_options import WorkloadChoice, workload_options
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig

if TYPE_CHECKING:
    from hookline.bench.offline import Measurement
    from hookline.bench.workloads import Workload


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@shape_option
@workload_options(default="standard")
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="after one warm-up, each with another first token; the best counts",
)
@click.option("--baseline", is_flag=True, help="transformers generate and generate_batch in the same run")
@report_options
def offline(
    loaded: LoadedConfig,
    workloads: WorkloadChoice,
    repetitions: int,
    baseline: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Run workloads of random token ids through an Engine: greedy, end tokens ignored."""
    from hookline.bench.offline import TransformersBaseline, check_fits, engine_runner, measure_in_turns
    from hookline.bench.surroundings import surroundings
    from hookline.bench.workloads import first_token
    from hookline.engine import Engine

    if baseline and loaded.config.model.load_format == "dummy":
        raise click.UsageError("--baseline needs a checkpoint with weights: transformers does not make them up")
    with Engine.from_config(loaded) as engine:
        chosen = workloads.make(engine.vocab_size)
        for workload in chosen:
            check_fits(workload, engine)
        runners = {"hookline": engine_runner(engine)}
        if baseline:
            runners |= TransformersBaseline(
                engine.model_path, dtype=engine.config.model.dtype, device=engine.config.execution.device
            ).runners()
        found = [
            (
                workload,
                measure_in_turns(
                    runners,
                    workload,
                    repetitions=repetitions,
                    first_token=lambda number: first_token(number, engine.vocab_size),
                ),
            )
            for workload in chosen
        ]
        values = {
            **surroundings(loaded),
            "model": Path(engine.model_path).name,
            "scale": workloads.scale,
            "start_timeline_s": engine.start_timeline,
            "chosen": [[path, value, reason] for path, value, reason in engine.plan.resolved],
            "workloads": [_values(workload, results) for workload, results in found],
        }
    table = [{"workload": workload.name, **row} for workload, results in found for row in _rows(results)]
    publish(values, table, as_json=as_json, output=output)


def _values(workload: Workload, results: list[Measurement]) -> dict[str, Any]:
    runs = {result.name: [round(seconds, 4) for seconds in result.runs] for result in results}
    return {
        "workload": workload.name,
        "requests": len(workload.prompts),
        "input_tokens": workload.num_input_tokens,
        "output_tokens": workload.num_output_tokens,
        "results": [{**row, "runs_s": runs[row["runner"]]} for row in _rows(results)],
    }


def _rows(results: list[Measurement]) -> list[dict[str, Any]]:
    return [
        {
            "runner": result.name,
            "output_tokens_per_s": round(result.output_rate, 1),
            "input_tokens_per_s": round(result.input_rate, 1),
            "best_s": round(result.seconds, 4),
            "first_s": round(result.first_seconds, 4),
            "hookline_ratio": round(result.seconds / results[0].seconds, 2),
        }
        for result in results
    ]
