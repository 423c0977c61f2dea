"""GridPositions: where each patch stands in its picture, as learned positions and as rotations.

Shape letters: T patches of all items, H hidden, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hookline_models.qwen3_vl.config import VisionConfig


class GridPositions:
    """Positions of patches in merge order: squares of patches one after the other, row by row."""

    def __init__(self, vision: VisionConfig, table: Tensor) -> None:
        """``table`` is [side * side, H], learned for a square picture and stretched to any other."""
        self._side = vision.grid_side
        self._merge = vision.merge_size
        self._table = table
        quarter = vision.head_dim // 4
        exponents = torch.arange(quarter, dtype=torch.float32, device=table.device) / quarter
        self._frequencies = 1.0 / (vision.rope_theta**exponents)

    def of(self, grids: Sequence[tuple[int, int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Learned positions [T, H] in float32, and float32 cos and sin [T, 1, D] as the ``rotary`` op wants them."""
        rows, cols = zip(*(self._places(*grid) for grid in grids), strict=True)
        lows = []
        for places, axis in ((rows, 1), (cols, 2)):
            # Corners lie on corners: the last patch has the table's last position.
            scale = [(self._side - 1) / max(grid[axis] - 1, 1) for grid in grids]
            lows.append(torch.cat([place * factor for place, factor in zip(places, scale, strict=True)]))
        return self._stretched(*lows), *self._rotations(torch.cat(rows), torch.cat(cols))

    def _places(self, frames: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Row and column of each patch, float32 [frames * height * width]."""
        merge, device = self._merge, self._table.device
        shape = (frames, height // merge, width // merge, merge, merge)
        rows = torch.arange(height, dtype=torch.float32, device=device).view(1, height // merge, 1, merge, 1)
        cols = torch.arange(width, dtype=torch.float32, device=device).view(1, 1, width // merge, 1, merge)
        return rows.expand(shape).reshape(-1), cols.expand(shape).reshape(-1)

    def _stretched(self, row_T: Tensor, col_T: Tensor) -> Tensor:
        """Bilinear between the four table entries around each place."""
        last = self._side - 1
        low_row, low_col = row_T.floor().clamp_(max=last), col_T.floor().clamp_(max=last)
        row_part, col_part = (row_T - low_row).unsqueeze(1), (col_T - low_col).unsqueeze(1)
        row0, col0 = low_row.long(), low_col.long()
        row1, col1 = (row0 + 1).clamp_(max=last), (col0 + 1).clamp_(max=last)

        def entry(row: Tensor, col: Tensor) -> Tensor:
            return self._table.index_select(0, row * self._side + col).float()

        upper = entry(row0, col0) * (1 - col_part) + entry(row0, col1) * col_part
        lower = entry(row1, col0) * (1 - col_part) + entry(row1, col1) * col_part
        return upper * (1 - row_part) + lower * row_part

    def _rotations(self, row_T: Tensor, col_T: Tensor) -> tuple[Tensor, Tensor]:
        """Half of the frequencies turn by the row, half by the column."""
        angles = torch.cat([row_T.unsqueeze(1) * self._frequencies, col_T.unsqueeze(1) * self._frequencies], dim=-1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([cos, cos], dim=-1).unsqueeze(1), torch.cat([-sin, sin], dim=-1).unsqueeze(1)
