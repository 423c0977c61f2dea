"""PagedAllocator: hands out KV slots in whole pages. Host only.

Page p holds the slots p * page_size ... (p + 1) * page_size - 1. Page 0 is the sink that padding writes
to; it is never handed out, so a pool needs room for ``num_slots + page_size`` slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    IntArray = npt.NDArray[np.int64]
    Lengths = Sequence[int] | npt.NDArray[np.integer]


class PagedAllocator:
    """Free pages, and the slots of requests that grow.

    An allocation that does not fit returns ``None`` and changes nothing. With ``check``, freeing what is
    not in use raises ``AssertionError`` before anything changes; without, the caller vouches for it.
    """

    def __init__(self, num_slots: int, page_size: int, *, check: bool = False) -> None:
        if page_size < 1:
            raise ValueError(f"page_size must be at least 1, not {page_size}")
        if num_slots < page_size:
            raise ValueError(f"the KV cache needs at least one page of {page_size} slots, not {num_slots}")
        self.page_size = page_size
        self.num_pages = num_slots // page_size
        self.check = check
        self.clear()

    def clear(self) -> None:
        """Take every page back."""
        # A stack whose top is its end: pages that were freed last are handed out first.
        self._stack = np.arange(self.num_pages, 0, -1, dtype=np.int64)
        self._top = self.num_pages
        self._in_use = np.zeros(self.num_pages + 1, dtype=np.bool_)

    @property
    def num_slots(self) -> int:
        """Slots that can be handed out: whole pages, without the sink."""
        return self.num_pages * self.page_size

    @property
    def num_free(self) -> int:
        """Slots of free pages."""
        return self._top * self.page_size

    @property
    def free_pages(self) -> IntArray:
        """Ids of the free pages, in no particular order (a copy)."""
        return self._stack[: self._top].copy()

    def extend_slots_needed(self, prefix_lens: Lengths, seq_lens: Lengths) -> int:
        """Free slots that ``alloc_extend`` takes (whole pages)."""
        prefix, seq = _lengths(prefix_lens), _lengths(seq_lens)
        return int((self._pages(seq) - self._pages(prefix)).sum()) * self.page_size

    def decode_slots_needed(self, seq_lens: Lengths) -> int:
        """Free slots that ``alloc_decode`` takes (whole pages)."""
        if self.page_size == 1:
            return len(seq_lens)
        return int(((_lengths(seq_lens) - 1) % self.page_size == 0).sum()) * self.page_size

    def alloc_extend(self, prefix_lens: Lengths, seq_lens: Lengths, last_locs: Lengths) -> IntArray | None:
        """Slots for tokens ``prefix_lens[i] ... seq_lens[i] - 1`` of each request, one after the other.

        ``last_locs[i]`` is the slot of token ``prefix_lens[i] - 1`` (unused at 0): a page begun is filled
        first. Returns int64 [sum(seq_lens - prefix_lens)], or ``None``.
        """
        prefix, seq, last = _lengths(prefix_lens), _lengths(seq_lens), _lengths(last_locs)
        size = self.page_size
        first_new = self._pages(prefix)
        num_new = self._pages(seq) - first_new
        pages = self._take(int(num_new.sum()))
        if pages is None or size == 1:
            return pages
        counts = seq - prefix
        # For each token its place in its request, and which of ``pages`` holds it unless that page is begun.
        ends, page_ends = np.cumsum(counts), np.cumsum(num_new)
        positions = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(ends - counts - prefix, counts)
        index = positions // size + np.repeat(page_ends - num_new - first_new, counts)
        begun = positions < np.repeat(first_new * size, counts)
        slots: IntArray = np.repeat(last + 1 - prefix, counts) + positions
        fresh = ~begun
        slots[fresh] = pages[index[fresh]] * size + positions[fresh] % size
        return slots

    def alloc_decode(self, seq_lens: Lengths, last_locs: Lengths) -> IntArray | None:
        """A slot for token ``seq_lens[i] - 1`` of each request; ``last_locs[i]`` is that of the token before.

        Returns int64 [len(seq_lens)], or ``None``.
        """
        if self.page_size == 1:
            return self._take(len(seq_lens))
        seq, last = _lengths(seq_lens), _lengths(last_locs)
        starts_page = (seq - 1) % self.page_size == 0
        pages = self._take(int(starts_page.sum()))
        if pages is None:
            return None
        slots = last + 1
        slots[starts_page] = pages * self.page_size
        return slots

    def free(self, slots: Sequence[int] | npt.NDArray[np.integer]) -> None:
        """Free the pages that hold ``slots``. A page is freed whole: never free part of one that is kept,
        and give all slots of a page in one call."""
        if len(slots) == 0:
            return
        pages = np.unique(_lengths(slots) // self.page_size)
        if self.check:
            self._check_in_use(pages)
        self._stack[self._top : self._top + len(pages)] = pages[::-1]
        self._top += len(pages)
        self._in_use[pages] = False

    def _take(self, num_pages: int) -> IntArray | None:
        if num_pages > self._top:
            return None
        assert num_pages >= 0, "a request cannot shrink: seq_lens must not be below prefix_lens"
        pages: IntArray = self._stack[self._top - num_pages : self._top][::-1].copy()
        self._top -= num_pages
        self._in_use[pages] = True
        return pages

    def _pages(self, lengths: IntArray) -> IntArray:
        return (lengths + (self.page_size - 1)) // self.page_size

    def _check_in_use(self, pages: IntArray) -> None:
        if pages[0] < 1 or pages[-1] > self.num_pages:
            raise AssertionError(
                f"freed pages {pages[0]} to {pages[-1]} reach outside 1 to {self.num_pages} (0 is the sink)"
            )
        idle = pages[~self._in_use[pages]]
        if len(idle):
            raise AssertionError(f"pages {idle[:8].tolist()} were freed twice ({len(idle)} in all)")


def _lengths(values: Lengths) -> IntArray:
    return np.asarray(values, dtype=np.int64)
