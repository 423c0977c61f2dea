"""``hookline bench serving``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hookline.commands.bench.report import publish, report_options
from hookline.commands.bench.workload_options import WorkloadChoice, workload_options
from hookline.errors import ConfigError

if TYPE_CHECKING:
    from hookline.bench.latencies import Limits, ServingMeasurement
    from hookline.bench.serving import Arrivals, ServerAddress
    from hookline.bench.workloads import Workload

    Run = tuple[Workload, Arrivals, ServingMeasurement]

_CLIENTS = 32
_LIMIT = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option("--base-url", default="http://127.0.0.1:8000", show_default=True, help="of any OpenAI-compatible server")
@click.option("--api-key", envvar="HOOKLINE_BENCH_API_KEY", help="key of the server")
@click.option("--model", help="served model; default: the first one")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    multiple=True,
    help=f"closed loop: clients, each with one request in flight; may be repeated  [default: {_CLIENTS}]",
)
@click.option(
    "--rate",
    type=_LIMIT,
    multiple=True,
    help="open loop: requests/s at random (Poisson) arrivals; may be repeated",
)
@click.option("--slo-ttft-ms", type=_LIMIT, help="a good request's time to first token at most")
@click.option("--slo-tpot-ms", type=_LIMIT, help="a good request's mean time per further token at most")
@click.option("--slo-e2e-ms", type=_LIMIT, help="a good request's whole time at most")
@click.option(
    "--vocab-size", type=click.IntRange(min=2), default=4096, show_default=True, help="token ids are below it"
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="SVG of the latencies' distributions")
@workload_options(default="mixed")
@report_options
def serving(
    base_url: str,
    api_key: str | None,
    model: str | None,
    concurrency: tuple[int, ...],
    rate: tuple[float, ...],
    slo_ttft_ms: float | None,
    slo_tpot_ms: float | None,
    slo_e2e_ms: float | None,
    vocab_size: int,
    plot: Path | None,
    workloads: WorkloadChoice,
    as_json: bool,
    output: Path | None,
) -> None:
    """Load a running server with streamed completions and time it from the client's side.

    Every workload runs once for each --concurrency and each --rate, with other first tokens each time.
    """
    from hookline.bench.latencies import Limits
    from hookline.bench.serving import Arrivals, ServerAddress
    from hookline.bench.surroundings import surroundings
    from hookline.launch import event_loop_factory

    seed = workloads.workload_seed
    arrivals = [Arrivals(concurrency=clients) for clients in concurrency]
    arrivals += [Arrivals(rate=value, seed=seed) for value in rate]
    limits = Limits(ttft=_seconds(slo_ttft_ms), tpot=_seconds(slo_tpot_ms), e2e=_seconds(slo_e2e_ms))
    server = ServerAddress(url=base_url, api_key=api_key)
    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        name, runs = runner.run(
            _measure(
                server, model, workloads.make(vocab_size), arrivals or [Arrivals(concurrency=_CLIENTS)], vocab_size
            )
        )
    values = {
        "client": surroundings(),
        "server": server.root,
        "model": name,
        "limits_s": asdict(limits),
        "runs": [_values(run, limits) for run in runs],
    }
    if plot is not None:
        _write_plot(plot, runs)
    publish(values, [_row(run, limits) for run in runs], as_json=as_json, output=output)


async def _measure(
    server: ServerAddress,
    model: str | None,
    workloads: Sequence[Workload],
    arrivals: Sequence[Arrivals],
    vocab_size: int,
) -> tuple[str, list[Run]]:
    from hookline.bench.serving import measure_serving, served_model
    from hookline.bench.workloads import first_token

    name = model or await served_model(server)
    runs: list[Run] = []
    for workload in workloads:
        for arrival in arrivals:
            variant = workload.variant(first_token(len(runs), vocab_size))
            runs.append((workload, arrival, await measure_serving(server, name, variant, arrival)))
    return name, runs


def _values(run: Run, limits: Limits) -> dict[str, Any]:
    workload, arrivals, result = run
    return {
        "workload": workload.name,
        "concurrency": arrivals.concurrency,
        "rate": arrivals.rate,
        **result.record(limits),
        "each": [
            {
                "input_tokens": times.input_tokens,
                "output_tokens": times.output_tokens,
                "ttft_s": round(times.ttft, 5),
                "tpot_s": None if times.tpot is None else round(times.tpot, 6),
                "e2e_s": round(times.e2e, 5),
                **({"error": times.error} if times.error else {}),
            }
            for times in result.requests
        ],
    }


def _row(run: Run, limits: Limits) -> dict[str, Any]:
    workload, arrivals, result = run
    record = result.record(limits)
    row: dict[str, Any] = {
        "workload": workload.name,
        "load": str(arrivals),
        "requests": record["requests"],
        "failed": record["failed"],
        "short": record["short"],
        "requests/s": round(result.request_rate, 2),
        "output_tok/s": round(result.output_rate, 1),
    }
    for kind in ("ttft", "inter_token", "tpot", "e2e"):
        found = record["latency_ms"].get(kind)
        shown = "-" if found is None else "/".join(f"{found[name]:.4g}" for name in ("p50", "p90", "p99"))
        row[f"{kind}_ms p50/p90/p99"] = shown
    if limits:
        row["good/s"] = round(result.goodput(limits), 2)
    return row


def _write_plot(path: Path, runs: Sequence[Run]) -> None:
    from hookline.bench.svg_plot import Panel, cumulative_plot

    titles = {"ttft": "time to first token", "inter_token": "between events", "e2e": "whole request"}
    panels = [
        Panel(
            title=title,
            series={
                f"{workload.name}, {arrivals}": [1000 * value for value in result.latencies()[kind]]
                for workload, arrivals, result in runs
            },
        )
        for kind, title in titles.items()
    ]
    try:
        path.write_text(cumulative_plot(panels))
    except OSError as exc:
        raise ConfigError(f"the plot cannot be written to '{path}': {exc.strerror}") from exc


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
