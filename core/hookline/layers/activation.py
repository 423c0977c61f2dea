"""Activations of gated MLPs, and of the plain ones of encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from hookline.errors import ModelError
from hookline.layers.ops import SILU_AND_MUL, Ops


def gated_activation(name: str, ops: Ops) -> Callable[[Tensor], Tensor]:
    """The op that maps [T, 2I] (gate, then up) to [T, I], by the checkpoint's word for it.

    Raises ``ModelError`` for an activation that no op has.
    """
    if name == "silu":
        return ops.request(SILU_AND_MUL)
    raise ModelError(f"activation '{name}' is not supported in a gated MLP (supported: silu)")


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The element-wise function of a plain MLP, by the checkpoint's word for it.

    Raises ``ModelError`` for a word that is not known.
    """
    found = _PLAIN.get(name)
    if found is None:
        raise ModelError(f"activation '{name}' is not supported in an encoder (supported: {', '.join(_PLAIN)})")
    return found


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


_PLAIN: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"gelu": F.gelu, "gelu_pytorch_tanh": _gelu_tanh, "gelu_new": _gelu_tanh, "quick_gelu": _quick_gelu}
)
