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
        index = args[1] if name == "__getitem__" else None
        by_mask = isinstance(index, Tensor) and index.dtype == torch.bool
        if name in _WAITING or by_mask:
            what = "indexing with a mask" if by_mask else f"'{name}'"
            raise AssertionError(f"{what} waits for the device: take lengths from the fields that end in _cpu")
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


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
