"""``hookline generate``: complete prompts with an engine in this process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from hookline.commands.options import ENGINE_SETTINGS, configured_command
from hookline.config.sources import LoadedConfig


@configured_command(common=ENGINE_SETTINGS, takes_model=True)
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="a prompt; may be repeated; '-' reads stdin")
@click.option("--prompt-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="one prompt a line")
@click.option("--max-new-tokens", type=int, help="output tokens at most")
@click.option("--temperature", type=float, help="0 is greedy")
@click.option("--sampling", default="{}", metavar="JSON", help='more of them: {"top_p": 0.9, "stop": ["."]}')
@click.option("--json", "as_json", is_flag=True, help="one JSON object per output")
def generate(
    loaded: LoadedConfig,
    prompts: tuple[str, ...],
    prompt_file: Path | None,
    max_new_tokens: int | None,
    temperature: float | None,
    sampling: str,
    as_json: bool,
) -> None:
    """Complete every --prompt with MODEL (default: the demo model) and print the outputs."""
    texts = [sys.stdin.read() if text == "-" else text for text in prompts]
    if prompt_file is not None:
        texts.extend(line for line in prompt_file.read_text(encoding="utf-8").splitlines() if line)
    if not texts:
        raise click.UsageError("give at least one --prompt TEXT or a --prompt-file FILE")
    params = _sampling(sampling, max_new_tokens, temperature)

    from hookline.engine import Engine

    with Engine.from_config(loaded, progress=sys.stderr.isatty()) as engine:
        outputs = engine.generate(texts, params)
    for output in outputs:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "prompt": texts[output.prompt_index],
                        "choice": output.choice_index,
                        "text": output.text,
                        "output_ids": output.output_ids,
                        "finish_reason": output.finish_reason.type,
                        "prompt_tokens": output.usage.prompt_tokens,
                        "cached_tokens": output.usage.cached_tokens,
                        "completion_tokens": output.usage.completion_tokens,
                    },
                    ensure_ascii=False,
                )
            )
        else:
            click.echo(output.text)


def _sampling(text: str, max_new_tokens: int | None, temperature: float | None) -> dict[str, Any]:
    try:
        params = json.loads(text)
    except json.JSONDecodeError as exc:
        raise click.UsageError(f"--sampling is not JSON: {exc}") from exc
    if not isinstance(params, dict):
        raise click.UsageError(f"--sampling must be a JSON object, not {text:.40}")
    if max_new_tokens is not None:
        params["max_new_tokens"] = max_new_tokens
    if temperature is not None:
        params["temperature"] = temperature
    return params
