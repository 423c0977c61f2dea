"""``hookline bench``: measure the engine offline, or a running server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from hookline.bench.workloads import SHAPES, Workload, make_workload
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig


@click.group()
def bench() -> None:
    """Measure the engine offline, or a running server."""


def _workload_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--workload", "shape", type=click.Choice(list(SHAPES)), default="mixed", show_default=True),
        click.option("--num-requests", default=32, show_default=True, help="requests of mixed and shared-prefix"),
        click.option("--input-len", default=128, show_default=True, help="prompt tokens (mixed: at most)"),
        click.option("--output-len", default=64, show_default=True, help="output tokens (mixed: at most)"),
        click.option("--prefix-len", default=512, show_default=True, help="shared tokens of shared-prefix"),
        click.option("--workload-seed", default=0, show_default=True),
        click.option("--json", "as_json", is_flag=True, help="one JSON object"),
    )
    for option in reversed(options):
        function = option(function)
    return function


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@_workload_options
@click.option("--repetitions", default=3, show_default=True, help="after one warm-up; the best counts")
@click.option("--baseline", is_flag=True, help="transformers generate and generate_batch in the same run")
def offline(
    loaded: LoadedConfig,
    shape: str,
    num_requests: int,
    input_len: int,
    output_len: int,
    prefix_len: int,
    workload_seed: int,
    as_json: bool,
    repetitions: int,
    baseline: bool,
) -> None:
    """Run a workload of random token ids through an Engine: greedy, end tokens ignored."""
    from hookline.bench.offline import TransformersBaseline, engine_runner, measure_in_turns
    from hookline.engine import Engine

    with Engine.from_config(loaded) as engine:
        workload = make_workload(
            shape,
            num_requests=num_requests,
            input_len=input_len,
            output_len=output_len,
            prefix_len=prefix_len,
            vocab_size=engine.vocab_size,
            seed=workload_seed,
        )
        runners = {"hookline": engine_runner(engine)}
        if baseline:
            runners |= TransformersBaseline(
                engine.model_path, dtype=engine.config.model.dtype, device=engine.config.execution.device
            ).runners()
        results = measure_in_turns(runners, workload, repetitions=repetitions)
    rows = [
        {
            "runner": result.name,
            "seconds": round(result.seconds, 4),
            "output_tokens_per_s": round(result.output_rate, 1),
            "tokens_per_s": round(result.total_rate, 1),
            "hookline_ratio": round(result.seconds / results[0].seconds, 2),
        }
        for result in results
    ]
    _print(workload, rows, as_json)


@bench.command()
@_workload_options
@click.option("--base-url", default="http://127.0.0.1:8000", show_default=True)
@click.option("--api-key", envvar="HOOKLINE_BENCH_API_KEY", help="key of the server")
@click.option("--model", help="served model; default: the first one")
@click.option("--concurrency", default=32, show_default=True, help="requests in flight")
@click.option("--vocab-size", default=4096, show_default=True, help="token ids are drawn below it")
def serving(
    shape: str,
    num_requests: int,
    input_len: int,
    output_len: int,
    prefix_len: int,
    workload_seed: int,
    as_json: bool,
    base_url: str,
    api_key: str | None,
    model: str | None,
    concurrency: int,
    vocab_size: int,
) -> None:
    """Load a running server with streamed completions and time it from the client's side."""
    from hookline.bench.serving import measure_serving

    workload = make_workload(
        shape,
        num_requests=num_requests,
        input_len=input_len,
        output_len=output_len,
        prefix_len=prefix_len,
        vocab_size=vocab_size,
        seed=workload_seed,
    )
    result = asyncio.run(measure_serving(base_url, workload, concurrency=concurrency, api_key=api_key, model=model))
    row = {
        "runner": base_url,
        "seconds": round(result.seconds, 4),
        "requests_per_s": round(result.request_rate, 1),
        "output_tokens_per_s": round(result.output_rate, 1),
        **{name: round(value, 4) for name, value in result.percentiles().items()},
    }
    _print(workload, [row], as_json)


bench.add_command(offline)


def _print(workload: Workload, rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    facts = {
        "workload": workload.name,
        "requests": len(workload.prompts),
        "input_tokens": workload.num_input_tokens,
        "output_tokens": workload.num_output_tokens,
    }
    if as_json:
        click.echo(json.dumps({**facts, "results": rows}, indent=2))
        return
    click.echo(", ".join(f"{name} {value}" for name, value in facts.items()))
    titles = list(rows[0])
    widths = [max(len(title), *(len(str(row[title])) for row in rows)) for title in titles]
    for line in ([str(title) for title in titles], *([str(row[title]) for title in titles] for row in rows)):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
