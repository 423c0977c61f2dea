"""``topk_softmax`` for few tokens: the places of all experts at once, instead of one expert after another."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hookline_kernels.triton_moe.kernels import topk_kernel
from hookline_kernels.triton_moe.launching import launch_options
from hookline_kernels.triton_ops import rows

#: With more tokens or experts than these, comparing every pair of experts is more work than it saves time.
_FEW_TOKENS, _FEW_EXPERTS = 64, 256


def topk_softmax(logits_TE: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
    """See ``hookline.layers.ops.topk_softmax``."""
    tokens, experts = logits_TE.shape
    if tokens > _FEW_TOKENS or experts > _FEW_EXPERTS:
        return rows.topk_softmax(logits_TE, top_k, renormalize)
    weights_TK = torch.empty(tokens, top_k, dtype=torch.float32, device=logits_TE.device)
    ids_TK = torch.empty(tokens, top_k, dtype=torch.int64, device=logits_TE.device)
    if tokens:
        logits_TE = logits_TE if logits_TE.stride(-1) == 1 else logits_TE.contiguous()
        topk_kernel[(tokens,)](
            logits_TE, weights_TK, ids_TK, logits_TE.stride(0), E=experts, K=top_k,
            BLOCK_E=triton.next_power_of_2(experts), RENORMALIZE=renormalize,
            **launch_options(logits_TE.device, num_warps=4),
        )  # fmt: skip
    return weights_TK, ids_TK
