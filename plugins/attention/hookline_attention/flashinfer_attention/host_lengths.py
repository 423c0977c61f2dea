"""HostLengths: the host's twins of a pass's page table, which FlashInfer plans from.

Shape letters: B requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class HostLengths:
    """int32 on the host, in one piece of memory: ``qo_indptr`` [B + 1] rows of the pass, ``indptr`` [B + 1] pages,
    ``last_page_len`` [B] and ``seq_lens`` [B] tokens.

    With ``pin`` they copy to the device while the host goes on.
    """

    def __init__(
        self, seq_lens: Sequence[int], extend_lens: Sequence[int] | None, page_size: int, *, pin: bool
    ) -> None:
        """``extend_lens`` are the new tokens of each request; ``None``: one each."""
        batch_size = len(seq_lens)
        memory = torch.empty(4 * batch_size + 2, dtype=torch.int32, pin_memory=pin)
        self.qo_indptr, self.indptr, self.last_page_len, self.seq_lens = torch.split(
            memory, [batch_size + 1, batch_size + 1, batch_size, batch_size]
        )
        lens = self.seq_lens.numpy()
        lens[:] = seq_lens
        pages = -(-lens // page_size)
        indptr, qo_indptr = self.indptr.numpy(), self.qo_indptr.numpy()
        indptr[0] = qo_indptr[0] = 0
        np.cumsum(pages, out=indptr[1:])
        np.subtract(lens, (pages - 1) * page_size, out=self.last_page_len.numpy())
        if extend_lens is None:
            qo_indptr[1:] = np.arange(1, batch_size + 1)
            self.longest_new = 1
        else:
            np.cumsum(extend_lens, out=qo_indptr[1:])
            #: The most new tokens of a request.
            self.longest_new = max(extend_lens, default=0)

    @property
    def num_pages(self) -> int:
        """Pages of all requests."""
        return int(self.indptr[-1])

    @property
    def batch_size(self) -> int:
        """B."""
        return int(self.seq_lens.shape[0])

    def empty_indices(self) -> Tensor:
        """A page list without pages: planning reads its length only."""
        return torch.empty(0, dtype=torch.int32)
