"""``hookline bench frontend``."""

from __future__ import annotations

from dataclasses import asdict

import click

from hookline.commands.bench.report import print_rows
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig


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
    print_rows(asdict(load), [row], as_json=as_json)
