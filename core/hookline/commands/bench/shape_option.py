"""``--shape``: measure the shape of a published model instead of a checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from hookline.bench.model_shapes import MODEL_SHAPES, with_shape
from hookline.config.sources import LoadedConfig


def shape_option(function: Callable[..., Any] | None = None, *, with_tokenizer: bool = False) -> Callable[..., Any]:
    """Replaces the model of the configuration, the first argument, while the function runs.

    ``with_tokenizer``: the model has a made-up tokenizer of its size.
    """
    if function is None:
        return functools.partial(shape_option, with_tokenizer=with_tokenizer)

    @functools.wraps(function)
    def with_model(loaded: LoadedConfig, *, shape: str | None, **values: Any) -> Any:
        if shape is not None and "model.model" in loaded.origins:
            raise click.UsageError(
                f"give either a model ('{loaded.config.model.model}', {loaded.origin_of('model.model')}) or --shape"
            )
        with with_shape(loaded, shape, has_tokenizer=with_tokenizer) as shaped:
            return function(shaped, **values)

    option = click.option(
        "--shape", type=click.Choice(list(MODEL_SHAPES)), help="a published model's shape, with made-up weights"
    )
    wrapped: Callable[..., Any] = option(with_model)
    return wrapped
