"""Tiles and items: how much work one program does, by shape and device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

#: Keys of an item of a decode are a multiple of this.
ITEM_UNIT = 64
#: The least rows that a matrix unit takes.
MIN_ROWS = 16
#: Programs of a decode that one multiprocessor should have.
PROGRAMS_PER_SM = 4
#: New tokens of a request up to which an extend is short.
_SHORT_EXTEND = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """What a launch is compiled for."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int


def decode_tile(group: int, head_dim: int, dtype: torch.dtype) -> Tile:
    """The tile of a decode: all query heads of a key-value head, and a block of keys."""
    wide = head_dim > 128 or dtype is torch.float32
    return Tile(rows=max(MIN_ROWS, triton.next_power_of_2(group)), keys=32 if wide else 64, num_warps=4, num_stages=3)


def extend_tile(group: int, head_dim: int, dtype: torch.dtype, longest: int) -> Tile:
    """The tile of an extend; short ones, as in speculative verification, take fewer rows."""
    rows = 64 if head_dim > 128 or dtype is torch.float32 else 128
    rows = max(MIN_ROWS, min(rows, triton.next_power_of_2(longest * group)))
    keys = 32 if head_dim > 128 or dtype is torch.float32 else 64
    return Tile(rows=rows, keys=keys, num_warps=4 if rows <= 64 else 8, num_stages=2)


def prefill_tile(group: int, head_dim: int, dtype: torch.dtype, longest: int) -> Tile:
    """The tile of a plain prefill. Measured on an H200 in bfloat16 with heads of 128 (benchmarks/tune_tiles.py)."""
    if head_dim > 128 or dtype is torch.float32:
        return extend_tile(group, head_dim, dtype, longest)
    rows = max(MIN_ROWS, min(128, triton.next_power_of_2(longest * group)))
    if rows < 128:
        return Tile(rows=rows, keys=64, num_warps=4, num_stages=3)
    # Few new tokens mostly read a prefix, which longer blocks do better.
    return Tile(rows=rows, keys=128 if longest <= _SHORT_EXTEND else 64, num_warps=8, num_stages=3)


def num_items(batch_size: int, num_kv_heads: int, num_sms: int) -> int:
    """Items into which the keys of a pass are cut, besides one that each request may add by its remainder."""
    return max(batch_size, -(-PROGRAMS_PER_SM * num_sms // num_kv_heads))
