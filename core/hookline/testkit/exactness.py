"""How far a result is from the truth, row by row."""

from __future__ import annotations

from torch import Tensor


def worst_error(got: Tensor, expected: Tensor) -> float:
    """The largest error of any row, relative to the row's largest element; infinite where a number is missing.

    A row is the last dimension. Rows are compared one by one because a small row that is wrong would not show
    beside a large one.
    """
    if not got.numel():
        return 0.0
    truth = expected.cpu().double()
    error = (got.cpu().double() - truth).abs().amax(-1) / truth.abs().amax(-1).clamp_min(1e-6)
    return float(error.nan_to_num(nan=float("inf")).max())
