"""Pairs sorted by expert without waiting for the device, in one or two launches."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hookline_kernels.triton_moe.kernels import count_kernel, place_kernel
from hookline_kernels.triton_moe.launching import launch_options

#: Pairs of a segment.
SEGMENT = 4096
#: Experts that one program places.
_GROUP = 8
#: Segments whose counts are added up at a time.
_BLOCK_S = 32


def align(ids_P: Tensor, experts: int, segment: int = SEGMENT) -> tuple[Tensor, Tensor]:
    """(order [P] int32, counts [E] int32): pairs by expert, in their order within one; -1 is left out.

    Only the first ``counts.sum()`` elements of the order are written.
    """
    pairs, device = ids_P.numel(), ids_P.device
    order_P = torch.empty(pairs, dtype=torch.int32, device=device)
    counts_E = torch.empty(experts, dtype=torch.int32, device=device)
    block = min(segment, max(64, triton.next_power_of_2(pairs)))
    segments = -(-pairs // block)
    # One more than there are experts, for pairs without one; a histogram wants several bins a thread.
    block_e = max(64, triton.next_power_of_2(experts + 1))
    common = {"E": experts, "BLOCK_E": block_e, "BLOCK_P": block}
    counts_SE = counts_E
    options = launch_options(device, num_warps=4 if block <= 1024 else 8)
    if segments > 1:
        counts_SE = torch.empty(segments, experts, dtype=torch.int32, device=device)
        count_kernel[(segments,)](ids_P, counts_SE, pairs, **common, **options)
    place_kernel[(segments, -(-experts // _GROUP))](
        ids_P, counts_SE, counts_E, order_P, pairs, segments,
        BLOCK_S=_BLOCK_S, GROUP=_GROUP, IS_ALONE=segments == 1, **common, **options,
    )  # fmt: skip
    return order_P, counts_E
