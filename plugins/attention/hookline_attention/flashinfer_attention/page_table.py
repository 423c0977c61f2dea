"""PageTable: the device's list of pages that FlashInfer's kernels read, made from the request-to-slot table.

Shape letters: B requests, P pages of all requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hookline_attention.flashinfer_attention.kernels import page_table_kernel

if TYPE_CHECKING:
    from hookline.batch.forward_batch import AttentionGeometry

#: Pages that one program copies at a time, and programs for each request.
_BLOCK = 256
_PROGRAMS = 8


class PageTable:
    """int32 on the device: ``indptr`` [B + 1] where the pages of each request begin in ``indices`` [P], and
    ``last_page_len`` [B] tokens in each request's last page."""

    def __init__(self, batch_size: int, indices: Tensor) -> None:
        """``indices`` is the caller's memory, for at least as many pages as are ever filled in."""
        self.indices = indices
        # Ordinary tensors: a graph's are filled in inside and outside of inference mode.
        with torch.inference_mode(False):
            self.indptr = torch.zeros(batch_size + 1, dtype=torch.int32, device=indices.device)
            self.last_page_len = torch.ones(batch_size, dtype=torch.int32, device=indices.device)

    def fill(self, geometry: AttentionGeometry) -> None:
        """Launch the kernel that writes all three from the geometry's device tensors."""
        table = geometry.req_to_token
        page_table_kernel[(self.last_page_len.shape[0], _PROGRAMS)](
            table, geometry.req_pool_indices, geometry.seq_lens,
            self.indptr, self.last_page_len, self.indices, table.stride(0),
            PAGE_SIZE=geometry.page_size, BLOCK=_BLOCK, num_warps=4,
        )  # fmt: skip
