"""The ops over rows, as core calls them. Shape letters as in ``hookline.layers.ops``."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hookline.layers.ops import QKV
from hookline_kernels.early_launch import early_launch
from hookline_kernels.triton_ops.kernels import (
    add_rms_norm_kernel,
    rms_norm_kernel,
    rope_kernel,
    rope_store_kernel,
    silu_and_mul_kernel,
    topk_softmax_kernel,
)

#: Elements of a row that one warp should have; more warps than eight do not help.
_PER_WARP = 512
#: Elements of heads that one program of the rotation takes.
_HEADS_TILE = 2048
#: Tokens up to which the heads of one are spread over many programs.
_SPREAD_TOKENS = 64


def _warps(block: int) -> int:
    return max(1, min(8, block // _PER_WARP))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See ``hookline.layers.ops.rms_norm``. ``x`` is [T, H] or [T, N, D] with any strides but the last."""
    size = x.shape[-1]
    if x.dim() > 3 or x.stride(-1) != 1 or weight.dim() == x.dim():
        x = x.reshape(-1, *x.shape[-weight.dim() :]).contiguous()
    inner = x.shape[1] if x.dim() == 3 else 1
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows = out.numel() // size if size else 0
    if rows:
        block = triton.next_power_of_2(size)
        rms_norm_kernel[(rows,)](
            x, weight.contiguous(), out, x.stride(0), x.stride(1) if x.dim() == 3 else 0, inner,
            weight.numel() // size, eps, H=size, BLOCK_H=block, num_warps=_warps(block),
        )  # fmt: skip
    return out


def fused_add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(norm(x + residual), x + residual); the sum is written over ``residual``."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    if x.shape[0]:
        size = x.shape[-1]
        block = triton.next_power_of_2(size)
        add_rms_norm_kernel[(x.shape[0],)](
            x, residual, weight, out, x.stride(0), residual.stride(0), eps,
            H=size, BLOCK_H=block, num_warps=_warps(block),
        )  # fmt: skip
    return out, residual


def silu_and_mul(x_TI2: Tensor) -> Tensor:
    """silu(first half) * second half."""
    width = x_TI2.shape[-1] // 2
    x = x_TI2.reshape(-1, 2 * width)
    out = torch.empty(*x_TI2.shape[:-1], width, dtype=x.dtype, device=x.device)
    if x.shape[0]:
        block = min(1024, triton.next_power_of_2(width))
        grid = (x.shape[0], -(-width // block))
        silu_and_mul_kernel[grid](x, out, x.stride(0), WIDTH=width, BLOCK_I=block, num_warps=_warps(block))
    return out


def rope_qkv(qkv_TO: Tensor, cos_T1D: Tensor, sin_T1D: Tensor, num_q: int, num_kv: int) -> QKV:
    """Split a fused projection into heads and rotate q and k."""
    return _rope(qkv_TO, None, 0.0, cos_T1D, sin_T1D, num_q, num_kv)


def qk_norm_rope(
    qkv_TO: Tensor, weight_ND: Tensor, eps: float, cos_T1D: Tensor, sin_T1D: Tensor, num_q: int, num_kv: int
) -> QKV:
    """The same with an RMS norm of each q and k head before the rotation."""
    return _rope(qkv_TO, weight_ND, eps, cos_T1D, sin_T1D, num_q, num_kv)


def _rope(
    qkv_TO: Tensor, weight_ND: Tensor | None, eps: float, cos: Tensor, sin: Tensor, num_q: int, num_kv: int
) -> QKV:
    tokens = qkv_TO.shape[0]
    num_turned, head_dim = num_q + num_kv, qkv_TO.shape[1] // (num_q + 2 * num_kv)
    qkv_TND = qkv_TO.view(tokens, num_turned + num_kv, head_dim)
    out = torch.empty(tokens, num_turned, head_dim, dtype=qkv_TO.dtype, device=qkv_TO.device)
    if tokens:
        block_d = triton.next_power_of_2(head_dim)
        block_n = max(1, min(triton.next_power_of_2(num_turned), _HEADS_TILE // block_d))
        rope_kernel[(tokens, -(-num_turned // block_n))](
            qkv_TO, qkv_TO if weight_ND is None else weight_ND, cos, sin, out,
            qkv_TO.stride(0), cos.stride(0), sin.stride(0), eps,
            N=num_turned, D=head_dim, BLOCK_N=block_n, BLOCK_D=block_d, HAS_NORM=weight_ND is not None,
            num_warps=4,
        )  # fmt: skip
    return out[:, :num_q], out[:, num_q:], qkv_TND[:, num_turned:]


def rope_store(
    qkv_TO: Tensor,
    cos_T1D: Tensor,
    sin_T1D: Tensor,
    num_q: int,
    num_kv: int,
    k_plane: Tensor,
    v_plane: Tensor,
    loc_T: Tensor,
) -> QKV:
    """Rotate q and k in place, and store k and v."""
    return _rope_store(qkv_TO, None, 0.0, cos_T1D, sin_T1D, num_q, num_kv, k_plane, v_plane, loc_T)


def qk_norm_rope_store(
    qkv_TO: Tensor,
    weight_ND: Tensor,
    eps: float,
    cos_T1D: Tensor,
    sin_T1D: Tensor,
    num_q: int,
    num_kv: int,
    k_plane: Tensor,
    v_plane: Tensor,
    loc_T: Tensor,
) -> QKV:
    """The same with an RMS norm of each q and k head before the rotation."""
    return _rope_store(qkv_TO, weight_ND, eps, cos_T1D, sin_T1D, num_q, num_kv, k_plane, v_plane, loc_T)


def _rope_store(
    qkv: Tensor,
    weight: Tensor | None,
    eps: float,
    cos: Tensor,
    sin: Tensor,
    num_q: int,
    num_kv: int,
    k_plane: Tensor,
    v_plane: Tensor,
    loc: Tensor,
) -> QKV:
    tokens, heads = qkv.shape[0], num_q + 2 * num_kv
    head_dim = qkv.shape[1] // heads
    if tokens:
        half = triton.next_power_of_2(max(1, head_dim // 2))
        # One token is spread over many programs, many tokens are not.
        tile = _HEADS_TILE if tokens > _SPREAD_TOKENS else _HEADS_TILE // 8
        block_n = max(1, min(triton.next_power_of_2(heads), tile // (2 * half)))
        rope_store_kernel[(tokens, -(-heads // block_n))](
            qkv, qkv if weight is None else weight, cos, sin, k_plane, v_plane, loc,
            tokens, qkv.stride(0), cos.stride(0), sin.stride(0), loc.stride(0),
            k_plane.stride(0), k_plane.stride(1), v_plane.stride(0), v_plane.stride(1), eps,
            NUM_Q=num_q, NUM_KV=num_kv, D=head_dim, BLOCK_N=block_n, BLOCK_HALF=half, HAS_NORM=weight is not None,
            num_warps=4 if tokens > _SPREAD_TOKENS else 1, **early_launch(qkv.device),
        )  # fmt: skip
    qkv_TND = qkv.view(tokens, heads, head_dim)
    return qkv_TND[:, :num_q], qkv_TND[:, num_q : num_q + num_kv], qkv_TND[:, num_q + num_kv :]


def topk_softmax(logits_TE: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
    """Softmax over all experts in float32, then the ``top_k`` largest."""
    tokens, experts = logits_TE.shape
    weights = torch.empty(tokens, top_k, dtype=torch.float32, device=logits_TE.device)
    ids = torch.empty(tokens, top_k, dtype=torch.int64, device=logits_TE.device)
    if tokens:
        topk_softmax_kernel[(tokens,)](
            logits_TE, weights, ids, logits_TE.stride(0),
            E=experts, K=top_k, BLOCK_E=triton.next_power_of_2(experts), BLOCK_K=triton.next_power_of_2(top_k),
            RENORMALIZE=renormalize,
            num_warps=1,
        )  # fmt: skip
    return weights, ids
