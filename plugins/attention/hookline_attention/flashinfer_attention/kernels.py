"""The kernel that makes a list of pages from the request-to-slot table. Shape letters: B requests, P pages of all."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def page_table_kernel(
    table_RC, rows_B, seq_lens_B, indptr, last_page_len_B, indices_P, stride_table,
    PAGE_SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A request's pages behind those of the requests before it. Grid: (B, programs for each request).

    Every program adds up the pages before its own from the lengths, so that nobody waits for a sum.
    """
    request = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    begin = 0
    for first in tl.range(0, request, BLOCK):
        before = first + lane
        lens = tl.load(seq_lens_B + before, mask=before < request, other=0).to(tl.int32)
        begin += tl.sum((lens + PAGE_SIZE - 1) // PAGE_SIZE, 0)
    seq_len = tl.load(seq_lens_B + request).to(tl.int32)
    num_pages = (seq_len + PAGE_SIZE - 1) // PAGE_SIZE
    if tl.program_id(1) == 0:
        if request == 0:
            tl.store(indptr, 0)
        tl.store(indptr + request + 1, begin + num_pages)
        tl.store(last_page_len_B + request, seq_len - (num_pages - 1) * PAGE_SIZE)
    table = table_RC + tl.load(rows_B + request).to(tl.int64) * stride_table
    for first in tl.range(tl.program_id(1) * BLOCK, num_pages, tl.num_programs(1) * BLOCK):
        page = first + lane
        is_page = page < num_pages
        slot = tl.load(table + page * PAGE_SIZE, mask=is_page, other=0)
        tl.store(indices_P + begin + page, slot // PAGE_SIZE, mask=is_page)
