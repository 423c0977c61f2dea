"""``hookline bench grammar``."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import click

from hookline.commands.bench.report import publish, report_options
from hookline.commands.bench.shape_option import shape_option
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@shape_option(with_tokenizer=True)
@click.option("--requests", type=click.IntRange(min=1), default=32, show_default=True, help="at once, a schema each")
@click.option("--output-len", type=click.IntRange(min=1), default=128, show_default=True, help="output tokens at most")
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="after one warm-up")
@report_options
def grammar(
    loaded: LoadedConfig, requests: int, output_len: int, repetitions: int, as_json: bool, output: Path | None
) -> None:
    """Generate under as many new JSON schemas as there are requests, and then as many tokens without any."""
    from hookline.bench.grammar import measure_grammars
    from hookline.bench.surroundings import surroundings
    from hookline.engine import Engine

    with Engine.from_config(loaded) as engine:
        found = measure_grammars(engine, num_requests=requests, output_len=output_len, repetitions=repetitions)
        rows = [
            {
                "repetition": number or "warm-up",
                "output_tokens": tokens,
                "constrained_tokens_per_s": round(tokens / held, 1),
                "free_tokens_per_s": round(tokens / free, 1),
                "ratio": round(free / held, 3),
            }
            for number, (tokens, held, free) in enumerate(zip(found.tokens, found.constrained, found.free, strict=True))
        ]
        values: dict[str, Any] = {
            **surroundings(loaded),
            "model": Path(engine.model_path).name,
            "vocabulary": engine.vocab_size,
            "requests": requests,
            "output_len": output_len,
            "ended": found.num_ended,
            "median_ratio": round(statistics.median(found.ratios), 3),
            "constrained_stages_us": found.constrained_stages,
            "free_stages_us": found.free_stages,
            "results": rows,
        }
    publish(values, rows, as_json=as_json, output=output)
