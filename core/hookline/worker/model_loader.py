"""Fills a model's parameters: from safetensors, or with random numbers for tests and measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from hookline.config.model_config import ModelConfig
from hookline.errors import ModelError
from hookline.layers.model import Model
from hookline.layers.parameters import Parameter
from hookline.worker.checkpoint import Checkpoint
from hookline.worker.load_plan import Copy, LayoutOption, plan_load

#: Called as tensors are loaded: (done, total).
Progress = Callable[[int, int], None]

_DUMMY_SEED = 1234
_DUMMY_RANGE = 1e-3


def load_weights(
    model: Model, path: Path, *, expert_layout: LayoutOption = "auto", progress: Progress | None = None
) -> None:
    """Fill every parameter of ``model`` from the checkpoint in ``path``, in the model's dtype.

    The caller then calls ``model.finalize``. Raises ``ModelError``, before any parameter is touched where
    the headers tell, that names every tensor at fault.
    """
    checkpoint, copies = _open(model, path, expert_layout)
    targets = {parameter.name: parameter.data for parameter in model.parameters.values()}
    _stream(checkpoint, copies, targets, progress)


def update_weights(
    model: Model, path: Path, *, expert_layout: LayoutOption = "auto", progress: Progress | None = None
) -> None:
    """Replace the weights of a running model by those of another checkpoint of the same shape.

    Everything is read into host memory first; a checkpoint that turns out broken leaves the model as it
    was. The caller then calls ``model.finalize`` and drops whatever was computed with the old weights.
    """
    _check_same_model(model.config, ModelConfig.load(path))
    checkpoint, copies = _open(model, path, expert_layout)
    staged = {
        parameter.name: torch.empty(parameter.data.shape, dtype=parameter.data.dtype)
        for parameter in model.parameters.values()
    }
    _stream(checkpoint, copies, staged, progress)
    for parameter in model.parameters.values():
        parameter.data.copy_(staged.pop(parameter.name))


def fill_dummy_weights(model: Model) -> None:
    """Fill every parameter with numbers in ±0.001 that depend on its shape alone, the same on every device."""
    for parameter in model.parameters.values():
        generator = torch.Generator().manual_seed(_DUMMY_SEED)
        values = torch.empty(parameter.data.shape, dtype=torch.float32)
        parameter.data.copy_(values.uniform_(-_DUMMY_RANGE, _DUMMY_RANGE, generator=generator))


def weight_bytes(parameters: Mapping[str, Parameter]) -> int:
    """Memory that the parameters take."""
    return sum(parameter.nbytes for parameter in parameters.values())


def _open(model: Model, path: Path, expert_layout: LayoutOption) -> tuple[Checkpoint, list[Copy]]:
    quantization = model.config.quantization
    if quantization is not None:
        method = quantization.get("quant_method", "unknown")
        raise ModelError(
            f"'{path}' is quantised by '{method}', which is not supported; use the checkpoint in bfloat16, "
            "float16 or float32"
        )
    checkpoint = Checkpoint.open(path)
    return checkpoint, plan_load(model, checkpoint, expert_layout)


def _stream(
    checkpoint: Checkpoint, copies: list[Copy], targets: Mapping[str, Tensor], progress: Progress | None
) -> None:
    by_source: dict[str, list[Copy]] = {}
    for copy in copies:
        by_source.setdefault(copy.source, []).append(copy)
    for done, (name, tensor) in enumerate(checkpoint.read(list(by_source)), start=1):
        for copy in by_source[name]:
            copy.piece.place(targets[copy.parameter.name]).copy_(tensor)
        if progress is not None:
            progress(done, len(by_source))


def _check_same_model(old: ModelConfig, new: ModelConfig) -> None:
    if new.quantization is not None:
        raise ModelError(f"the weights in '{new.path}' are quantised, those being served are not")
    for name in ("architectures", "num_layers", "rope", "tie_word_embeddings", "layer_windows", "moe", "rms_norm_eps"):
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            raise ModelError(f"'{new.path}' is another model than the one being served: {name} is {now}, not {was}")
