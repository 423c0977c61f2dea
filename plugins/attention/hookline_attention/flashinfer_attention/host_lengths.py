"""HostLengths: the host's twins of a pass's page table, which FlashInfer plans from.

Shape letters: B requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]


class HostLengths:
    """int32 on the host, parts of one tensor. With ``pin`` they copy to the device while the host goes on.

    Made before every replay of a captured decode, so it takes few calls.
    """

    def __init__(
        self, seq_lens: Sequence[int] | IntArray, extend_lens: Sequence[int] | None, page_size: int, *, pin: bool
    ) -> None:
        """``extend_lens`` are the new tokens of each request; ``None``: one each."""
        #: B.
        self.batch_size = batch_size = len(seq_lens)
        self._memory = torch.empty(4 * batch_size + 2, dtype=torch.int32, pin_memory=pin)
        values = self._memory.numpy()
        lens = values[:batch_size]
        last_page_len = values[batch_size : 2 * batch_size]
        indptr = values[2 * batch_size : 3 * batch_size + 1]
        qo_indptr = values[3 * batch_size + 1 :]
        lens[:] = seq_lens
        pages = (lens + (page_size - 1)) // page_size
        np.subtract(lens, (pages - 1) * page_size, out=last_page_len)
        indptr[0] = qo_indptr[0] = 0
        np.cumsum(pages, out=indptr[1:])
        if extend_lens is None:
            qo_indptr[1:] = np.arange(1, batch_size + 1)
        else:
            np.cumsum(extend_lens, out=qo_indptr[1:])
        #: The most new tokens of a request.
        self.longest_new = 1 if extend_lens is None else max(extend_lens, default=0)

    @property
    def num_pages(self) -> int:
        """Pages of all requests."""
        return int(self.indptr[-1])

    @property
    def seq_lens(self) -> Tensor:
        """[B] tokens of each request."""
        return self._memory[: self.batch_size]

    @property
    def last_page_len(self) -> Tensor:
        """[B] tokens in each request's last page."""
        return self._memory[self.batch_size : 2 * self.batch_size]

    @property
    def indptr(self) -> Tensor:
        """[B + 1] where the pages of each request begin."""
        return self._memory[2 * self.batch_size : 3 * self.batch_size + 1]

    @property
    def qo_indptr(self) -> Tensor:
        """[B + 1] where the rows of each request begin."""
        return self._memory[3 * self.batch_size + 1 :]
