"""Fills a model's parameters: from safetensors, or with random numbers for tests and measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
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
#: The numbers of a large parameter repeat after so many. A prime, so that rows of no width are equal.
_DUMMY_PERIOD = 1_048_573
#: Groups of tensors for each reader: short ones even out what a slow one costs.
_PARTS_PER_READER = 4


def load_weights(
    model: Model,
    path: Path,
    *,
    expert_layout: LayoutOption = "auto",
    progress: Progress | None = None,
    num_readers: int = 1,
) -> None:
    """Fill every parameter of ``model`` from the checkpoint in ``path``, in the model's dtype.

    Tensors go from the file to their places on the device by themselves, in ``num_readers`` threads. The caller
    then calls ``model.finalize``. Raises ``ModelError``, before any parameter is touched where the headers tell,
    that names every tensor at fault.
    """
    checkpoint, copies = _open(model, path, expert_layout)
    targets = {parameter.name: parameter.data for parameter in model.parameters.values()}
    _stream(checkpoint, copies, targets, progress, num_readers)


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
    """Fill every parameter with numbers in ±0.001 that depend on its shape and dtype alone, the same on every device.

    They are made once and copied on the device: random numbers for billions of weights take minutes on a host.
    """
    generator = torch.Generator().manual_seed(_DUMMY_SEED)
    numbers = torch.empty(_DUMMY_PERIOD).uniform_(-_DUMMY_RANGE, _DUMMY_RANGE, generator=generator)
    on_device: dict[tuple[torch.device, torch.dtype], Tensor] = {}
    for parameter in model.parameters.values():
        kind = (parameter.data.device, parameter.data.dtype)
        if kind not in on_device:
            on_device[kind] = numbers.to(*kind)
        flat = parameter.data.view(-1)
        for start in range(0, flat.numel(), _DUMMY_PERIOD):
            part = flat[start : start + _DUMMY_PERIOD]
            part.copy_(on_device[kind][: part.numel()])


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
    checkpoint: Checkpoint,
    copies: list[Copy],
    targets: Mapping[str, Tensor],
    progress: Progress | None,
    num_readers: int = 1,
) -> None:
    by_source: dict[str, list[Copy]] = {}
    for copy in copies:
        by_source.setdefault(copy.source, []).append(copy)
    done = 0

    def read(names: list[str]) -> Iterator[None]:
        for name, tensor in checkpoint.read(names):
            for copy in by_source[name]:
                copy.piece.place(targets[copy.parameter.name]).copy_(tensor)
            yield

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, len(by_source))

    if num_readers == 1:
        for _ in read(list(by_source)):
            tell(1)
        return
    parts = checkpoint.parts(list(by_source), num_readers * _PARTS_PER_READER)
    with ThreadPoolExecutor(num_readers, thread_name_prefix="weights") as pool:
        futures = [pool.submit(lambda names: sum(1 for _ in read(names)), part) for part in parts]
        try:
            for future in as_completed(futures):
                tell(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check_same_model(old: ModelConfig, new: ModelConfig) -> None:
    if new.quantization is not None:
        raise ModelError(f"the weights in '{new.path}' are quantised, those being served are not")
    for name in ("architectures", "num_layers", "rope", "tie_word_embeddings", "layer_windows", "moe", "rms_norm_eps"):
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            raise ModelError(f"'{new.path}' is another model than the one being served: {name} is {now}, not {was}")
