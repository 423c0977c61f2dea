"""``hookline bench``: measure the engine, the server, and what lies between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from hookline.bench.workloads import SHAPES, Workload, make_workload
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig

_MIB = 1 << 20


@click.group()
def bench() -> None:
    """Measure the engine, the server, and what lies between them."""


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


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@click.option("--streams", type=click.IntRange(min=1), default=256, show_default=True, help="concurrent completions")
@click.option("--tokens", type=click.IntRange(min=1), default=512, show_default=True, help="tokens of each stream")
@click.option("--tokens-per-step", type=click.IntRange(min=1), default=1, show_default=True, help="of each stream")
@click.option(
    "--steps-ahead",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="steps that the fake scheduler may be ahead of the client",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def frontend(
    loaded: LoadedConfig, streams: int, tokens: int, tokens_per_step: int, steps_ahead: int, as_json: bool
) -> None:
    """Carry the tokens of a fake scheduler to streaming clients: HTTP, tokenizer manager and detokenizer alone.

    MODEL gives the tokenizer; its weights are not loaded.
    """
    from hookline.bench.frontend import FrontendLoad, measure_frontend

    load = FrontendLoad(
        streams=streams, tokens_per_stream=tokens, tokens_per_step=tokens_per_step, steps_ahead=steps_ahead
    )
    result = measure_frontend(loaded, load)
    row = {
        "seconds": round(result.seconds, 4),
        "tokens_per_s": round(result.token_rate, 1),
        "chunks_per_s": round(result.chunk_rate, 1),
        "tokens_per_chunk": round(result.tokens / result.chunks, 2),
        "seconds_to_all_started": round(result.seconds_to_all_started, 4),
        "server_us_per_chunk": round(1e6 * result.cpu["server"] / result.chunk_rate, 1),
        **{f"cpu_{name}": round(share, 3) for name, share in result.cpu.items()},
    }
    _print_rows(asdict(load), [row], as_json)


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
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
        {"command": name, "median_s": round(median, 3), "best_s": round(min(result.seconds[name]), 3)}
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
    _print_table(starts)
    if idle:
        click.echo()
        _print_table(idle)


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@_workload_options
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="the best counts")
@click.option(
    "--first-tokens", type=click.IntRange(min=1), default=20, show_default=True, help="requests sent one by one"
)
def overhead(
    loaded: LoadedConfig,
    shape: str,
    num_requests: int,
    input_len: int,
    output_len: int,
    prefix_len: int,
    workload_seed: int,
    as_json: bool,
    repetitions: int,
    first_tokens: int,
) -> None:
    """Run a workload through an Engine in this process and, in turns, over HTTP on a server started for it."""
    from hookline.bench.overhead import measure_overhead

    def make(vocab_size: int) -> Workload:
        return make_workload(
            shape,
            num_requests=num_requests,
            input_len=input_len,
            output_len=output_len,
            prefix_len=prefix_len,
            vocab_size=vocab_size,
            seed=workload_seed,
        )

    result = measure_overhead(loaded, make, repetitions=repetitions, num_first_tokens=first_tokens)
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
    facts = {"workload": shape, "repetitions": repetitions, "first_tokens": first_tokens}
    _print_rows(facts, rows, as_json)


for _command in (offline, frontend, startup, overhead):
    bench.add_command(_command)


def _print(workload: Workload, rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    facts = {
        "workload": workload.name,
        "requests": len(workload.prompts),
        "input_tokens": workload.num_input_tokens,
        "output_tokens": workload.num_output_tokens,
    }
    _print_rows(facts, rows, as_json)


def _print_rows(facts: Mapping[str, Any], rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**facts, "results": rows}, indent=2))
        return
    click.echo(", ".join(f"{name} {value}" for name, value in facts.items()))
    _print_table(rows)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    titles = list(rows[0])
    widths = [max(len(title), *(len(str(row[title])) for row in rows)) for title in titles]
    for line in ([str(title) for title in titles], *([str(row[title]) for title in titles] for row in rows)):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
