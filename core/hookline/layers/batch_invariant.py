"""Batch-invariant ops: the same bits for a token whatever else is in the pass, on CPU.

A matrix product may add up in another order when the number of rows changes. Here every product has the
same number of rows: tokens are cut into tiles of a fixed size and the last tile is padded. The references
of all other ops work row by row or are made of this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

#: Rows of every matrix product. Small, because a lone token pays for a whole tile.
TILE_ROWS = 16


def tiled_linear(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``linear`` in products of exactly ``TILE_ROWS`` rows."""
    num_tokens = x_TI.shape[0]
    out_TO = x_TI.new_empty(num_tokens, weight_OI.shape[0])
    for start in range(0, num_tokens, TILE_ROWS):
        rows = min(TILE_ROWS, num_tokens - start)
        # A fresh tile each time: the product must not depend on how the rows lie in memory.
        tile = x_TI.new_zeros(TILE_ROWS, x_TI.shape[1])
        tile[:rows] = x_TI[start : start + rows]
        out_TO[start : start + rows] = F.linear(tile, weight_OI, bias_O)[:rows]
    return out_TO


#: Used, with the references of all other ops, when ``execution.deterministic`` is on.
BATCH_INVARIANT_OPS: Mapping[str, Callable[..., Any]] = {"linear": tiled_linear}
