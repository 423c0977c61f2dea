"""ReqToTokenPool: a row for each request that holds KV, and the slot of each of its tokens."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt


class ReqToTokenPool:
    """Rows of the request-to-slot table, and its host copy.

    ``table`` is int32 [num_rows, max_context]. Entries beyond a request's tokens hold whatever an earlier
    owner of the row left there.
    """

    def __init__(self, num_rows: int, max_context: int) -> None:
        if num_rows < 1 or max_context < 1:
            raise ValueError(f"need at least one row and one token, not {num_rows} rows of {max_context} tokens")
        self.num_rows = num_rows
        self.max_context = max_context
        self.table: npt.NDArray[np.int32] = np.zeros((num_rows, max_context), dtype=np.int32)
        self.clear()

    def clear(self) -> None:
        """Take every row back."""
        # First in, first out: a row given back rests as long as possible before its next owner.
        self._free: deque[int] = deque(range(self.num_rows))
        self._in_use = [False] * self.num_rows

    @property
    def num_free(self) -> int:
        """Rows that nobody holds."""
        return len(self._free)

    def alloc(self) -> int | None:
        """A row, or ``None`` when all are taken."""
        if not self._free:
            return None
        row = self._free.popleft()
        self._in_use[row] = True
        return row

    def free(self, row: int) -> None:
        """Give a row back; freeing one that nobody holds is a bug of the caller (``AssertionError``)."""
        if not self._in_use[row]:
            raise AssertionError(f"row {row} was freed twice")
        self._in_use[row] = False
        self._free.append(row)
