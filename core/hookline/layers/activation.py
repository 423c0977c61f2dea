"""Activations of gated MLPs."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hookline.errors import ModelError
from hookline.layers.ops import SILU_AND_MUL, Ops


def gated_activation(name: str, ops: Ops) -> Callable[[Tensor], Tensor]:
    """The op that maps [T, 2I] (gate, then up) to [T, I], by the checkpoint's word for it.

    Raises ``ModelError`` for an activation that no op has.
    """
    if name == "silu":
        return ops.request(SILU_AND_MUL)
    raise ModelError(f"activation '{name}' is not supported in a gated MLP (supported: silu)")
