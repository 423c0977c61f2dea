"""Tiles of matrix-vector products, and up to how many tokens they win."""

from __future__ import annotations

from dataclasses import dataclass

#: Tokens at most for which any product runs as matrix-vector products.
FEW_TOKENS = 4
_MANY_OUTPUTS = 4096
_HEAD_OUTPUTS = 32768
#: Elements of a weight that each multiprocessor's cache holds a good part of.
_SMALL_WEIGHT = 9 << 19


@dataclass(frozen=True, slots=True, kw_only=True)
class MatvecTile:
    """What a matrix-vector product is compiled for."""

    outputs: int
    inputs: int
    num_warps: int


def few_tokens(inputs: int, outputs: int) -> int:
    """Tokens up to which matrix-vector products win over matrix units: more where the weight is small.

    Measured on an H200 against cuBLAS with the separate norm (docs/performance.md).
    """
    elements = inputs * outputs
    if elements <= _SMALL_WEIGHT:
        return FEW_TOKENS
    return 2 if elements <= 2 * _SMALL_WEIGHT else 1


def matvec_tile(inputs: int, outputs: int, is_gated: bool) -> MatvecTile:
    """Measured on an H200 in bfloat16 at the products of Qwen3-0.6B and Qwen3-30B-A3B (benchmarks/tune_tiles.py)."""
    if is_gated:
        return MatvecTile(outputs=8, inputs=1024, num_warps=8)
    if outputs < _MANY_OUTPUTS:
        # Few programs: each needs more of the weight in flight.
        return MatvecTile(outputs=4, inputs=2048, num_warps=8)
    wide = inputs > 1024 and outputs < _HEAD_OUTPUTS
    return MatvecTile(outputs=8, inputs=512 if wide else 1024, num_warps=4)
