"""Tiles worth measuring, by how many rows an expert has; what cannot fit or cannot win is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from hookline_kernels.triton_moe.tiles import FewTile, GroupedTile

#: Shared memory of a program on Hopper.
_SHARED_BYTES = 227 << 10
#: What of a result passes through shared memory at a time, at least.
_SLICE_BYTES = 9 << 10
#: Rows an expert has on average up to which reading the weights takes longer than multiplying.
_SMALL_MEAN, _MIDDLE_MEAN = 20.0, 100.0


def few_candidates() -> Iterator[FewTile]:
    """Ups and downs are measured apart, so each appears once beside the default of the other."""
    for rows, warps in ((1, 4), (2, 4), (2, 8), (4, 4), (4, 8), (8, 8)):
        yield FewTile(up_rows=rows, up_warps=warps)
    for rows, warps in ((1, 2), (1, 4), (2, 4), (2, 8), (4, 8)):
        yield FewTile(down_rows=rows, down_warps=warps)
    yield replace(FewTile(), dependent=False)


def grouped_candidates(mean: float, is_up: bool) -> list[GroupedTile]:
    """Tiles for experts with ``mean`` rows; ``is_up`` for the product that has a gate and an up half."""
    if mean <= _SMALL_MEAN:
        rows = (16,) if mean <= 4 else (16, 32)
        tiles = list(_swapped(rows, is_up))
    elif mean <= _MIDDLE_MEAN:
        tiles = [*_swapped((32, 64, 128), is_up, wide=True), *_wide((64,), is_up)]
    else:
        tiles = list(_wide((64, 128, 256), is_up))
    halved = [] if mean <= _SMALL_MEAN else [replace(one, half_tail=True) for one in tiles if _halves(one)]
    tiles += halved + [persistent for tile in tiles for persistent in _persistent(tile, is_up)]
    return [tile for tile in tiles if _shared(tile, is_up) <= _SHARED_BYTES]


def _halves(tile: GroupedTile) -> bool:
    """Whether a half tail may pay: large tiles whose rows come without descriptors."""
    return tile.rows >= 64 and tile.weights_tma and not tile.rows_tma


def _persistent(tile: GroupedTile, is_up: bool) -> Iterator[GroupedTile]:
    """As many programs as fit into shared memory, the result of a tile beside its stages: whole, or in slices.

    With descriptors, but for weights on the left of the up product: they would go through registers.
    """
    if tile.weights_tma is (tile.swap and is_up) or not (is_up or tile.rows_tma):
        return
    stages, whole = _shared(tile, is_up), tile.rows * tile.columns * (1 if tile.swap else 2)
    fits = {min(3, _SHARED_BYTES // (stages + result)) for result in (whole, min(whole, _SLICE_BYTES))}
    for per_sm in sorted(fits - {0}):
        yield replace(tile, per_sm=per_sm)


def _swapped(rows: tuple[int, ...], is_up: bool, wide: bool = False) -> Iterator[GroupedTile]:
    """Weights on the left. Columns count twice in the up product."""
    cuts = [(64, 128, 4, 4), (64, 256, 4, 3), (128, 64, 4, 4), (128, 128, 4, 3), (128, 128, 4, 4), (128, 128, 8, 3),
            (128, 256, 4, 2), (128, 256, 8, 3), (256, 64, 8, 4)]  # fmt: skip
    if wide:
        cuts = [(128, 64, 4, 4), (128, 128, 4, 3), (128, 128, 8, 3), (256, 64, 8, 4)]
    for m, (columns, depth, warps, stages) in product(rows, cuts):
        for weights_tma, rows_tma in _tma(is_up):
            yield GroupedTile(
                rows=m, columns=columns // 2 if is_up else columns, depth=depth, num_warps=warps, num_stages=stages,
                swap=True, weights_tma=weights_tma, rows_tma=rows_tma,
            )  # fmt: skip


def _wide(rows: tuple[int, ...], is_up: bool) -> Iterator[GroupedTile]:
    """Rows on the left, for the tensor cores' full rate."""
    cuts = {
        64: [(128, 64, 4, 4), (256, 64, 4, 2), (256, 64, 4, 3), (256, 64, 8, 3)],
        128: [(128, 64, 4, 3), (128, 64, 4, 4), (128, 64, 8, 3), (128, 64, 8, 4), (256, 64, 8, 3), (256, 64, 8, 4),
              (128, 128, 8, 3)],
        256: [(128, 64, 8, 3), (128, 64, 8, 4)],
    }  # fmt: skip
    for m in rows:
        for columns, depth, warps, stages in cuts[m]:
            for weights_tma, rows_tma in _tma(is_up):
                yield GroupedTile(
                    rows=m, columns=columns // 2 if is_up else columns, depth=depth, num_warps=warps,
                    num_stages=stages, weights_tma=weights_tma, rows_tma=rows_tma,
                )  # fmt: skip


def _tma(is_up: bool) -> tuple[tuple[bool, bool], ...]:
    return ((False, False), (True, False)) if is_up else ((False, False), (True, False), (True, True))


def _shared(tile: GroupedTile, is_up: bool) -> int:
    """Bytes of the stages of a 16-bit product."""
    return (tile.rows + tile.columns * (2 if is_up else 1)) * tile.depth * 2 * tile.num_stages
