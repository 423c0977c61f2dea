"""Routing of few tokens: norm and router in one launch, and the places of all experts at once in a second."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from hookline_kernels.triton_moe.kernels import route_kernel, topk_kernel
from hookline_kernels.triton_moe.launching import launch_options
from hookline_kernels.triton_ops import rows

#: With more tokens or experts than these, comparing every pair of experts is more work than it saves time.
_FEW_TOKENS, _FEW_EXPERTS = 64, 256
#: Tokens up to which each norms itself beside its router rows; more share a matrix product.
_MOST_ROUTED = 16
#: Experts whose logits one program computes.
_ROUTER_ROWS = 4


def add_norm_route(
    x_TH: Tensor,
    residual_TH: Tensor | None,
    norm_H: Tensor,
    eps: float,
    router_EH: Tensor,
    top_k: int,
    renormalize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``hookline.layers.ops``: norm, router and choice of experts. The logits of few tokens are float32."""
    if x_TH.shape[0] > _MOST_ROUTED:
        if residual_TH is None:
            normed_TH, total_TH = rows.rms_norm(x_TH, norm_H, eps), x_TH
        else:
            normed_TH, total_TH = rows.fused_add_rms_norm(x_TH, residual_TH, norm_H, eps)
        weights_TK, ids_TK = topk_softmax(F.linear(normed_TH, router_EH), top_k, renormalize)
        return normed_TH, total_TH, weights_TK, ids_TK
    (tokens, hidden), experts, device = x_TH.shape, router_EH.shape[0], x_TH.device
    x_TH = x_TH if x_TH.stride(-1) == 1 else x_TH.contiguous()
    normed_TH = torch.empty(tokens, hidden, dtype=x_TH.dtype, device=device)
    total_TH = x_TH if residual_TH is None else torch.empty_like(normed_TH)
    logits_TE = torch.empty(tokens, experts, dtype=torch.float32, device=device)
    residual = x_TH if residual_TH is None else residual_TH if residual_TH.stride(-1) == 1 else residual_TH.contiguous()
    block_e = min(_ROUTER_ROWS, triton.next_power_of_2(experts))
    if tokens:
        route_kernel[(tokens, -(-experts // block_e))](
            x_TH, residual, norm_H, router_EH, normed_TH, total_TH, logits_TE, x_TH.stride(0), residual.stride(0), eps,
            H=hidden, E=experts, BLOCK_E=block_e, BLOCK_H=triton.next_power_of_2(hidden),
            HAS_RESIDUAL=residual_TH is not None, **launch_options(device, num_warps=8),
        )  # fmt: skip
    weights_TK, ids_TK = topk_softmax(logits_TE, top_k, renormalize)
    return normed_TH, total_TH, weights_TK, ids_TK


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
