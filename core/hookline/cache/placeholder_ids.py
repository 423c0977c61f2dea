"""PlaceholderIds: token ids for the placeholders of media, so that a prefix cache tells media apart.

The prefix cache compares prompts by their ids, and the ids of a model's placeholders are all the same. So each row of
each item gets an id of its own, above every vocabulary: a part of the item's digest, and the row's number. Two digests
may agree in that part; the table then gives the second one another, so that equal ids always mean equal digests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]

#: The least id of a placeholder; ids of a vocabulary are below.
FIRST_PLACEHOLDER = 1 << 62
#: Bits of an id for the number of the row, and above them those for the item.
_ROW_BITS = 22
_ITEM_BITS = 40
#: Rows that an item may have.
MAX_ROWS = 1 << _ROW_BITS
#: Digests from which on the table is searched for those that nobody needs.
_SWEEP_SIZE = 1 << 16


class PlaceholderIds:
    """Digest -> ids. Equal calls give equal ids on every rank."""

    def __init__(self, sweep_size: int = _SWEEP_SIZE) -> None:
        self._digests: dict[int, bytes] = {}
        self._numbers: dict[bytes, int] = {}
        self._sweep_size = self._least_sweep = sweep_size

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def is_full(self) -> bool:
        """Whether ``sweep`` should be called."""
        return len(self._numbers) >= self._sweep_size

    def rows(self, digest: bytes, num_rows: int) -> IntArray:
        """The ids of an item's rows, int64 [num_rows], all different and different from those of any other digest."""
        number = self._numbers.get(digest)
        if number is None:
            number = int.from_bytes(digest[:8], "little") % (1 << _ITEM_BITS)
            while number in self._digests:
                number = (number + 1) % (1 << _ITEM_BITS)
            self._digests[number] = digest
            self._numbers[digest] = number
        first = FIRST_PLACEHOLDER + (number << _ROW_BITS)
        return np.arange(first, first + num_rows, dtype=np.int64)

    def renew(self, digest: bytes) -> None:
        """From now on the digest has other ids: KV that was computed with its rows so far is not to be found again."""
        # The number stays taken by something that is no digest, until no cache knows it any more.
        number = self._numbers.pop(digest, None)
        if number is not None:
            self._digests[number] = b""

    def sweep(self, cached_ids: IntArray, live: Iterable[bytes]) -> None:
        """Forget all digests but those whose ids are among ``cached_ids`` and those of ``live`` requests."""
        rows = cached_ids[cached_ids >= FIRST_PLACEHOLDER]
        kept = set(np.unique((rows - FIRST_PLACEHOLDER) >> _ROW_BITS).tolist())
        kept.update(self._numbers[digest] for digest in live if digest in self._numbers)
        self._digests = {number: digest for number, digest in self._digests.items() if number in kept}
        self._numbers = {digest: number for number, digest in self._digests.items() if digest}
        self._sweep_size = max(self._least_sweep, 2 * len(self._numbers))
