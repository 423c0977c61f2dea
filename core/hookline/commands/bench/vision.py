"""``hookline bench vision``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hookline.commands.bench.report import publish, report_options
from hookline.commands.bench.shape_option import shape_option
from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig

if TYPE_CHECKING:
    from hookline.bench.vision import VisionMeasurement


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@shape_option
@click.option("--layers", type=click.IntRange(min=1), help="cut the text half to so many; made-up weights")
@click.option("--size", type=click.IntRange(min=32), default=1024, show_default=True, help="side of a picture, pixels")
@click.option(
    "--pictures",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 4, 16),
    show_default=True,
    help="in one request; may be repeated",
)
@click.option("--requests", type=click.IntRange(min=1), default=32, show_default=True, help="at once, a picture each")
@click.option("--output-len", type=click.IntRange(min=2), default=32, show_default=True, help="tokens of each of them")
@click.option(
    "--stream-len", type=click.IntRange(min=3), default=256, show_default=True, help="tokens of the text stream"
)
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="after one warm-up")
@click.option("--baseline", is_flag=True, help="measure transformers too, with made-up weights")
@report_options
def vision(
    loaded: LoadedConfig,
    layers: int | None,
    size: int,
    pictures: tuple[int, ...],
    requests: int,
    output_len: int,
    stream_len: int,
    repetitions: int,
    baseline: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Ask a server about new and repeated pictures, and time the encoder alone.

    Starts a server of its own. MODEL is a directory, or a --shape stands for it.
    """
    from hookline.bench.picture_client import PictureLoad
    from hookline.bench.surroundings import surroundings
    from hookline.bench.vision import measure_vision

    load = PictureLoad(
        counts=pictures,
        repetitions=repetitions,
        num_concurrent=requests,
        output_len=output_len,
        stream_len=stream_len,
    )
    found = measure_vision(
        loaded,
        load,
        size=size,
        num_layers=layers,
        with_baseline=baseline,
        note=lambda text: click.echo(text, err=True),
    )
    rows = list(_rows(found))
    values = {
        **surroundings(loaded),
        "model": found.model,
        "layers": layers,
        "size": size,
        "load": asdict(load),
        "served": asdict(found.served),
        "encoder": asdict(found.encoder),
        "transformers": None if found.baseline is None else asdict(found.baseline),
        "seconds": {part: round(seconds, 1) for part, seconds in found.parts.items()},
        "results": rows,
    }
    publish(values, rows, as_json=as_json, output=output)


def _rows(found: VisionMeasurement) -> list[dict[str, Any]]:
    served, encoder, baseline = found.served, found.encoder, found.baseline
    rows = [
        _row(f"encoder, {count} in a row", encoder.rate(count), "pictures/s", note=_share(encoder.share(count)))
        for count in encoder.seconds
    ]
    rows.append(_row("host: decode and process one", 1000 * encoder.host_seconds, "ms"))
    for count, seconds in served.first_token.items():
        theirs = baseline.first_token if baseline is not None and count == 1 else None
        rows.append(
            _row(f"first token, {count} new", 1000 * seconds, "ms", theirs=_ms(theirs), ratio=_over(theirs, seconds))
        )
    for name, seconds in served.repeated.items():
        sooner = served.repeated["new"] / seconds
        rows.append(_row(f"first token, {name}", 1000 * seconds, "ms", note=f"{sooner:.1f}x sooner than new"))
    rate = None if baseline is None else baseline.request_rate
    rows.append(
        _row(
            f"{served.num_concurrent} requests at once",
            served.request_rate,
            "requests/s",
            theirs=rate,
            ratio=None if rate is None else served.request_rate / rate,
            note="" if baseline is None else f"transformers in batches of {baseline.batch}",
        )
    )
    for name, latency in served.inter_token_ms.items():
        note = "" if name == "alone" else f"{served.disturbing / served.disturbed_seconds:.1f} pictures/s beside it"
        rows += [_row(f"text stream {name}, {key}", latency[key], "ms/token", note=note) for key in ("p50", "p99")]
    return rows


def _row(
    what: str,
    value: float,
    unit: str,
    *,
    theirs: float | None = None,
    ratio: float | None = None,
    note: str = "",
) -> dict[str, Any]:
    return {
        "what": what,
        "hookline": round(value, 3),
        "unit": unit,
        "transformers": "-" if theirs is None else round(theirs, 3),
        "ratio": "-" if ratio is None else round(ratio, 2),
        "note": note,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _over(theirs: float | None, ours: float) -> float | None:
    return None if theirs is None else theirs / ours


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%} of the FLOP limit"
