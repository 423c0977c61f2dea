"""Tensors on the CPU that behave like a busy device's: reading a number from them is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

#: What copies a tensor's numbers, or its number of hits, to the host.
_WAITING = frozenset(
    {
        "__bool__",
        "__contains__",
        "__float__",
        "__index__",
        "__int__",
        "__array__",
        "allclose",
        "argwhere",
        "cpu",
        "equal",
        "is_nonzero",
        "item",
        "masked_select",
        "nonzero",
        "numpy",
        "tolist",
        "unique",
        "unique_consecutive",
    }
)


class DeviceTensor(Tensor):
    """Results of operations on it are of its kind too."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _WAITING:
            what = f"'{name}'"
        elif name == "__getitem__" and _reads_index(args[1]):
            what = "indexing with a mask or with one number (use index_select)"
        else:
            return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        raise AssertionError(f"{what} waits for the device: take lengths from the fields that end in _cpu")


def _reads_index(index: Any) -> bool:
    """Whether indexing looks at the numbers of a tensor: at the hits of a mask, or at a lone index."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and (part.dim() == 0 or part.dtype == torch.bool) for part in parts)


def on_busy_device(tensor: Tensor) -> DeviceTensor:
    """The same memory; reading a number from it raises ``AssertionError``."""
    return tensor.as_subclass(DeviceTensor)


@contextmanager
def waiting_is_an_error(device: torch.device) -> Iterator[None]:
    """On CUDA, make torch raise where it would wait; elsewhere ``on_busy_device`` does it."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
