"""M-RoPE positions of a prompt with pictures: time, row and column of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRun:
    """Consecutive placeholders of one picture, or of one pair of frames."""

    #: Place of the first one in the prompt.
    start: int
    #: The merged grid: ``rows * cols`` placeholders.
    rows: int
    cols: int

    @property
    def end(self) -> int:
        """Place after the last one."""
        return self.start + self.rows * self.cols


def mrope_positions(length: int, runs: Sequence[GridRun]) -> tuple[NDArray[np.int64], int]:
    """Positions [3, length], and what is added to a later token's place to get its position.

    Text counts up in all three planes. A run at position s has time s, rows from s and columns from s; what
    follows goes on at s + max(rows, cols). ``runs`` are in the prompt's order and do not overlap.
    """
    positions = np.empty((3, length), dtype=np.int64)
    done = position = 0
    for run in runs:
        text = run.start - done
        positions[:, done : run.start] = np.arange(position, position + text)
        position += text
        positions[0, run.start : run.end] = position
        positions[1, run.start : run.end] = position + np.repeat(np.arange(run.rows), run.cols)
        positions[2, run.start : run.end] = position + np.tile(np.arange(run.cols), run.rows)
        position += max(run.rows, run.cols)
        done = run.end
    positions[:, done:] = np.arange(position, position + length - done)
    delta = int(positions.max()) + 1 - length if length else 0
    return positions, delta
