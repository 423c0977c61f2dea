"""The "torch" op set: the ops of core, written so that each takes few calls into torch.

On a CPU a decode step of a small model is bound by the number of calls, not by arithmetic; the references in
``hookline.layers.ops`` are written for reading. Each function here is tested against its reference.

Shape letters as in ``hookline.layers.ops``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def torch_ops(device: torch.device, dtype: torch.dtype, options: Any) -> Mapping[str, Callable[..., Any]]:
    """The ops of the set for a device and compute dtype; what is absent falls back to core's reference."""
    ops: dict[str, Callable[..., Any]] = {
        "silu_and_mul": silu_and_mul,
        "rotary": rotary,
        "topk_softmax": topk_softmax,
        "rms_norm": rms_norm,
        "fused_moe": fused_moe,
    }
    if device.type == "cpu" and dtype == torch.float32:
        ops["rms_norm"] = CpuRMSNorm().rms_norm
    return ops


def silu_and_mul(x_TI2: Tensor) -> Tensor:
    """silu(first half) * second half, without a third buffer."""
    half = x_TI2.shape[-1] // 2
    return F.silu(x_TI2[..., :half]).mul_(x_TI2[..., half:])


def rotary(x_TND: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
    """The reference with the sum fused into the second product."""
    return torch.addcmul(x_TND * cos_T1D, x_TND.roll(x_TND.shape[-1] // 2, -1), sin_T1D)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """torch's own RMS norm, a fused kernel on CUDA."""
    if weight.dim() == 1:
        return torch.rms_norm(x, (x.shape[-1],), weight, eps)
    return torch.rms_norm(x, (x.shape[-1],), None, eps).mul_(weight)


class CpuRMSNorm:
    """RMS norm in float32 by way of the vector norm, which is one fast call on a CPU."""

    def __init__(self) -> None:
        self._constants: dict[tuple[int, float], tuple[Tensor, float]] = {}

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x * weight / sqrt(mean(x^2) + eps), as x / (hypot(|x|, sqrt(H eps)) / sqrt(H))."""
        size = x.shape[-1]
        constants = self._constants.get((size, eps))
        if constants is None:
            constants = torch.tensor(math.sqrt(size * eps)), 1.0 / math.sqrt(size)
            self._constants[size, eps] = constants
        floor, scale = constants
        root = torch.linalg.vector_norm(x, 2, -1, True).hypot_(floor).mul_(scale)
        return x.div(root).mul_(weight)


def topk_softmax(logits_TE: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
    """With ``renormalize`` the softmax over the chosen logits alone gives the same weights."""
    if renormalize:
        chosen_TK, ids_TK = logits_TE.float().topk(top_k, dim=-1)
        return torch.softmax(chosen_TK, dim=-1), ids_TK
    weights_TK, ids_TK = torch.softmax(logits_TE, dim=-1, dtype=torch.float32).topk(top_k, dim=-1)
    return weights_TK, ids_TK


def fused_moe(x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
    """Tokens sorted by expert, one pair of products for each expert that has any, everything else batched."""
    if x_TH.shape[0] == 1:
        return _one_token(x_TH, w13_EJH, w2_EHI, weights_TK, ids_TK)
    num_experts, top_k = w13_EJH.shape[0], ids_TK.shape[1]
    flat_ids = ids_TK.reshape(-1)
    order = flat_ids.argsort(stable=True)
    # One more bin than experts: ids of -1 sort first and are dropped.
    counts = torch.bincount(flat_ids + 1, minlength=num_experts + 1).tolist()
    if counts[0]:
        order = order[counts[0] :]
    experts = [expert for expert in range(num_experts) if counts[expert + 1]]
    if not experts:
        return torch.zeros_like(x_TH)
    sizes = [counts[expert + 1] for expert in experts]
    tokens = order // top_k

    chunks = torch.split_with_sizes(x_TH.index_select(0, tokens), sizes)
    hidden = silu_and_mul(torch.cat([F.linear(chunk, w13_EJH[e]) for chunk, e in zip(chunks, experts, strict=True)]))
    chunks = torch.split_with_sizes(hidden, sizes)
    parts = torch.cat([F.linear(chunk, w2_EHI[e]) for chunk, e in zip(chunks, experts, strict=True)])
    scale = weights_TK.reshape(-1).index_select(0, order).unsqueeze(-1)
    out_TH = torch.zeros(x_TH.shape, dtype=torch.float32, device=x_TH.device)
    return out_TH.index_add_(0, tokens, parts * scale).to(x_TH.dtype)


def _one_token(x_1H: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_1K: Tensor, ids_1K: Tensor) -> Tensor:
    """Nothing to sort."""
    experts = ids_1K[0].tolist()
    if min(experts) < 0:
        keep = ids_1K[0] >= 0
        if not bool(keep.any()):
            return torch.zeros_like(x_1H)
        return _one_token(x_1H, w13_EJH, w2_EHI, weights_1K[:, keep], ids_1K[:, keep])
    hidden_KJ = torch.cat([F.linear(x_1H, w13_EJH[expert]) for expert in experts])
    hidden_KI = silu_and_mul(hidden_KJ).mul_(weights_1K.to(x_1H.dtype).t())
    out_1H = F.linear(hidden_KI[:1], w2_EHI[experts[0]])
    for index, expert in enumerate(experts[1:], start=1):
        out_1H += F.linear(hidden_KI[index : index + 1], w2_EHI[expert])
    return out_1H
