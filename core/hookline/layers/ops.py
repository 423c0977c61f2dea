"""Ops: the numerical building blocks by name, each with a torch reference that defines it.

A layer asks for an op once, when the model is built (``ops.request(RMS_NORM)``), and keeps the callable.
Op sets (plugins) offer faster callables under the same names; what nobody offers falls back to the
reference here. Composite ops fall back to a composition of the ops that were chosen for their parts, so a
faster ``rms_norm`` also speeds up a ``qk_norm_rope`` that nobody offers whole.

Shape letters: T tokens, H hidden, O output features, I intermediate width, N heads (query heads, then
key heads, then value heads where all three are meant), D head dimension, E experts, K experts per token.
The ops between logits and tokens have letters of their own, in ``hookline.layers.sampling``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hookline.errors import PluginError
from hookline.layers import sampling
from hookline.layers.batch_invariant import BATCH_INVARIANT_OPS

F_co = TypeVar("F_co", bound=Callable[..., Any], covariant=True)

QKV = tuple[Tensor, Tensor, Tensor]
#: See ``hookline.layers.sampling.sample_tokens``.
SampleTokens = Callable[
    [Tensor, Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor, int], Tensor
]


@dataclass(frozen=True, slots=True)
class Op(Generic[F_co]):
    """A named op. ``fallback`` makes its implementation from the reference or from other chosen ops."""

    name: str
    fallback: Callable[[Ops], F_co]


class Ops:
    """The chosen implementation of each op. Sets given first win."""

    def __init__(self, sets: Iterable[Mapping[str, Callable[..., Any]]] = (), *, deterministic: bool = False) -> None:
        """With ``deterministic`` the sets must be batch-invariant (``OpSetSpec.deterministic_target``), and core's
        batch-invariant ops come after them, before the references.

        Raises ``PluginError`` for an op name that core does not define.
        """
        self.deterministic = deterministic
        self._chosen: dict[str, Callable[..., Any]] = {}
        for implementations in (*sets, BATCH_INVARIANT_OPS) if deterministic else sets:
            for name, function in implementations.items():
                if name not in OPS:
                    raise PluginError(f"unknown op '{name}' in an op set (known: {', '.join(sorted(OPS))})")
                self._chosen.setdefault(name, function)

    def request(self, op: Op[F_co]) -> F_co:
        """The implementation of ``op``. Called when a model is built, never in a forward pass."""
        found: F_co | None = self._chosen.get(op.name)  # type: ignore[assignment]
        if found is None:
            found = op.fallback(self)
            self._chosen[op.name] = found
        return found


def linear(x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``x`` times the transposed weight, plus the bias: [T, O]."""
    return F.linear(x_TI, weight_OI, bias_O)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last dimension in float32, then times ``weight`` in the dtype of ``x``.

    ``weight`` broadcasts against ``x``: [H] for hidden states, [N, D] for heads with a weight each.
    """
    x32 = x.float()
    normed = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
    return normed.to(x.dtype) * weight


def silu_and_mul(x_TI2: Tensor) -> Tensor:
    """Gate is the first half of the last dimension, up the second: silu(gate) * up, [T, I]."""
    gate, up = x_TI2.chunk(2, dim=-1)
    return F.silu(gate) * up


def rotary(x_TND: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
    """Rotate the pairs (i, i + D/2) of every head.

    ``cos`` holds the D/2 cosines twice; ``sin`` holds the negated sines and then the sines, so that the
    rotation is ``x * cos + swap_halves(x) * sin``.
    """
    half = x_TND.shape[-1] // 2
    return x_TND * cos_T1D + x_TND.roll(half, -1) * sin_T1D


def topk_softmax(logits_TE: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
    """Softmax over all experts in float32, then the ``top_k`` largest: weights [T, K] float32, ids [T, K] int64.

    With ``renormalize`` the K weights are divided by their sum.
    """
    weights_TK, ids_TK = torch.softmax(logits_TE, dim=-1, dtype=torch.float32).topk(top_k, dim=-1)
    if renormalize:
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
    return weights_TK, ids_TK


def _compose_logits(ops: Ops) -> Callable[[Tensor, Tensor], Tensor]:
    project = ops.request(LINEAR)

    def logits(hidden_SH: Tensor, weight_VH: Tensor) -> Tensor:
        """``linear`` as float32, [S, V], which sampling needs; sums may be finer than the dtype of the factors."""
        return project(hidden_SH, weight_VH, None).float()

    return logits


def _compose_add_rms_norm(ops: Ops) -> Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    norm = ops.request(RMS_NORM)

    def fused_add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """(norm(x + residual), x + residual). May write into ``x`` and ``residual``: use neither afterwards."""
        total = residual + x
        return norm(total, weight, eps), total

    return fused_add_rms_norm


def _heads(x_TO: Tensor, num_heads: int) -> Tensor:
    """[T, N, D]; ``view`` with -1 would not tell D of an empty pass."""
    return x_TO.view(x_TO.shape[0], num_heads, x_TO.shape[1] // num_heads)


def _compose_rope_qkv(ops: Ops) -> Callable[[Tensor, Tensor, Tensor, int, int], QKV]:
    rotate = ops.request(ROTARY)

    def rope_qkv(qkv_TO: Tensor, cos_T1D: Tensor, sin_T1D: Tensor, num_q: int, num_kv: int) -> QKV:
        """Split a fused projection into heads and rotate q and k: q [T, num_q, D], k and v [T, num_kv, D]."""
        qkv_TND = _heads(qkv_TO, num_q + 2 * num_kv)
        qk_TND = rotate(qkv_TND[:, : num_q + num_kv], cos_T1D, sin_T1D)
        return qk_TND[:, :num_q], qk_TND[:, num_q:], qkv_TND[:, num_q + num_kv :]

    return rope_qkv


def _compose_qk_norm_rope(ops: Ops) -> Callable[[Tensor, Tensor, float, Tensor, Tensor, int, int], QKV]:
    norm = ops.request(RMS_NORM)
    rotate = ops.request(ROTARY)

    def qk_norm_rope(
        qkv_TO: Tensor, weight_ND: Tensor, eps: float, cos_T1D: Tensor, sin_T1D: Tensor, num_q: int, num_kv: int
    ) -> QKV:
        """As ``rope_qkv``, with an RMS norm of each q and k head before the rotation.

        ``weight_ND`` is [num_q + num_kv, D]: the weight of each head.
        """
        qkv_TND = _heads(qkv_TO, num_q + 2 * num_kv)
        qk_TND = rotate(norm(qkv_TND[:, : num_q + num_kv], weight_ND, eps), cos_T1D, sin_T1D)
        return qk_TND[:, :num_q], qk_TND[:, num_q:], qkv_TND[:, num_q + num_kv :]

    return qk_norm_rope


def _compose_rope_store(ops: Ops) -> Callable[[Tensor, Tensor, Tensor, int, int, Tensor, Tensor, Tensor], QKV]:
    rope = ops.request(ROPE_QKV)

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
        """As ``rope_qkv``; k and v also go to rows ``loc_T`` of the planes [slots, num_kv, D], in their dtype.

        May write into ``qkv_TO``, of which the results may be views.
        """
        q, k, v = rope(qkv_TO, cos_T1D, sin_T1D, num_q, num_kv)
        _store(k_plane, v_plane, loc_T, k, v)
        return q, k, v

    return rope_store


def _compose_qk_norm_rope_store(
    ops: Ops,
) -> Callable[[Tensor, Tensor, float, Tensor, Tensor, int, int, Tensor, Tensor, Tensor], QKV]:
    norm_rope = ops.request(QK_NORM_ROPE)

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
        """As ``qk_norm_rope``; k and v also go to the planes, as in ``rope_store``. May write into ``qkv_TO``."""
        q, k, v = norm_rope(qkv_TO, weight_ND, eps, cos_T1D, sin_T1D, num_q, num_kv)
        _store(k_plane, v_plane, loc_T, k, v)
        return q, k, v

    return qk_norm_rope_store


def _store(k_plane: Tensor, v_plane: Tensor, loc_T: Tensor, k_TKD: Tensor, v_TKD: Tensor) -> None:
    k_plane.index_copy_(0, loc_T, k_TKD.to(k_plane.dtype))
    v_plane.index_copy_(0, loc_T, v_TKD.to(v_plane.dtype))


def _compose_add_norm_linear(
    ops: Ops,
) -> Callable[[Tensor, Tensor | None, Tensor, float, Tensor, Tensor | None], tuple[Tensor, Tensor]]:
    add_norm, project = _compose_add_norm(ops), ops.request(LINEAR)

    def add_norm_linear(
        x_TH: Tensor, residual_TH: Tensor | None, norm_H: Tensor, eps: float, weight_OH: Tensor, bias_O: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(linear(norm(x + residual), weight, bias), x + residual); without ``residual`` the sum is x.

        May write into ``x_TH`` and ``residual_TH``: use neither afterwards.
        """
        normed, total = add_norm(x_TH, residual_TH, norm_H, eps)
        return project(normed, weight_OH, bias_O), total

    return add_norm_linear


def _compose_add_norm_gated(
    ops: Ops,
) -> Callable[[Tensor, Tensor | None, Tensor, float, Tensor], tuple[Tensor, Tensor]]:
    add_norm, project, activate = _compose_add_norm(ops), ops.request(LINEAR), ops.request(SILU_AND_MUL)

    def add_norm_gated(
        x_TH: Tensor, residual_TH: Tensor | None, norm_H: Tensor, eps: float, weight_JH: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(silu_and_mul(linear(norm(x + residual), weight)), x + residual), as ``add_norm_linear``. J is 2I."""
        normed, total = add_norm(x_TH, residual_TH, norm_H, eps)
        return activate(project(normed, weight_JH, None)), total

    return add_norm_gated


def _compose_add_norm_route(
    ops: Ops,
) -> Callable[[Tensor, Tensor | None, Tensor, float, Tensor, int, bool], tuple[Tensor, Tensor, Tensor, Tensor]]:
    add_norm, project, route = _compose_add_norm(ops), ops.request(LINEAR), ops.request(TOPK_SOFTMAX)

    def add_norm_route(
        x_TH: Tensor,
        residual_TH: Tensor | None,
        norm_H: Tensor,
        eps: float,
        router_EH: Tensor,
        top_k: int,
        renormalize: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(norm(x + residual), x + residual, weights [T, K], ids [T, K]): what experts need, routed by the normed.

        The last two as ``topk_softmax`` gives them. Arguments as in ``add_norm_linear``.
        """
        normed, total = add_norm(x_TH, residual_TH, norm_H, eps)
        weights_TK, ids_TK = route(project(normed, router_EH, None), top_k, renormalize)
        return normed, total, weights_TK, ids_TK

    return add_norm_route


def _compose_add_norm(ops: Ops) -> Callable[[Tensor, Tensor | None, Tensor, float], tuple[Tensor, Tensor]]:
    norm, fused = ops.request(RMS_NORM), ops.request(FUSED_ADD_RMS_NORM)

    def add_norm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        return (norm(x, weight, eps), x) if residual is None else fused(x, residual, weight, eps)

    return add_norm


def _compose_fused_moe(ops: Ops) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    project = ops.request(LINEAR)
    activate = ops.request(SILU_AND_MUL)

    def fused_moe(x_TH: Tensor, w13_EJH: Tensor, w2_EHI: Tensor, weights_TK: Tensor, ids_TK: Tensor) -> Tensor:
        """Weighted sum over each token's experts, [T, H]. J is 2I: gate, then up. Ids of -1 add nothing."""
        num_experts, top_k = w13_EJH.shape[0], ids_TK.shape[1]
        out_TH = torch.zeros_like(x_TH, dtype=torch.float32)
        flat_ids = ids_TK.reshape(-1)
        # One sort brings the (token, choice) pairs of an expert together.
        order = flat_ids.argsort(stable=True)
        ends = torch.searchsorted(flat_ids[order], torch.arange(num_experts, device=x_TH.device), right=True).tolist()
        start = int((flat_ids < 0).sum())
        for expert, end in enumerate(ends):
            if end > start:
                pairs = order[start:end]
                tokens = pairs // top_k
                hidden = activate(project(x_TH[tokens], w13_EJH[expert], None))
                scale = weights_TK.reshape(-1)[pairs].unsqueeze(-1)
                out_TH.index_add_(0, tokens, project(hidden, w2_EHI[expert], None) * scale)
            start = end
        return out_TH.to(x_TH.dtype)

    return fused_moe


LINEAR: Op[Callable[[Tensor, Tensor, Tensor | None], Tensor]] = Op("linear", lambda ops: linear)
LOGITS: Op[Callable[[Tensor, Tensor], Tensor]] = Op("logits", _compose_logits)
RMS_NORM: Op[Callable[[Tensor, Tensor, float], Tensor]] = Op("rms_norm", lambda ops: rms_norm)
FUSED_ADD_RMS_NORM: Op[Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]] = Op(
    "fused_add_rms_norm", _compose_add_rms_norm
)
SILU_AND_MUL: Op[Callable[[Tensor], Tensor]] = Op("silu_and_mul", lambda ops: silu_and_mul)
ROTARY: Op[Callable[[Tensor, Tensor, Tensor], Tensor]] = Op("rotary", lambda ops: rotary)
ROPE_QKV: Op[Callable[[Tensor, Tensor, Tensor, int, int], QKV]] = Op("rope_qkv", _compose_rope_qkv)
QK_NORM_ROPE: Op[Callable[[Tensor, Tensor, float, Tensor, Tensor, int, int], QKV]] = Op(
    "qk_norm_rope", _compose_qk_norm_rope
)
ROPE_STORE: Op[Callable[[Tensor, Tensor, Tensor, int, int, Tensor, Tensor, Tensor], QKV]] = Op(
    "rope_store", _compose_rope_store
)
QK_NORM_ROPE_STORE: Op[Callable[[Tensor, Tensor, float, Tensor, Tensor, int, int, Tensor, Tensor, Tensor], QKV]] = Op(
    "qk_norm_rope_store", _compose_qk_norm_rope_store
)
ADD_NORM_LINEAR: Op[Callable[[Tensor, Tensor | None, Tensor, float, Tensor, Tensor | None], tuple[Tensor, Tensor]]] = (
    Op("add_norm_linear", _compose_add_norm_linear)
)
ADD_NORM_GATED: Op[Callable[[Tensor, Tensor | None, Tensor, float, Tensor], tuple[Tensor, Tensor]]] = Op(
    "add_norm_gated", _compose_add_norm_gated
)
ADD_NORM_ROUTE: Op[
    Callable[[Tensor, Tensor | None, Tensor, float, Tensor, int, bool], tuple[Tensor, Tensor, Tensor, Tensor]]
] = Op("add_norm_route", _compose_add_norm_route)
TOPK_SOFTMAX: Op[Callable[[Tensor, int, bool], tuple[Tensor, Tensor]]] = Op("topk_softmax", lambda ops: topk_softmax)
FUSED_MOE: Op[Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = Op("fused_moe", _compose_fused_moe)
ARGMAX: Op[Callable[[Tensor], tuple[Tensor, Tensor]]] = Op("argmax", lambda ops: sampling.argmax)
LOG_SOFTMAX: Op[Callable[[Tensor], Tensor]] = Op("log_softmax", lambda ops: sampling.log_softmax)
APPLY_BITMASK: Op[Callable[[Tensor, Tensor, Tensor], Tensor]] = Op("apply_bitmask", lambda ops: sampling.apply_bitmask)
SAMPLE_TOKENS: Op[SampleTokens] = Op("sample_tokens", lambda ops: sampling.sample_tokens)

#: Every op by name.
OPS: Mapping[str, Op[Callable[..., Any]]] = {
    op.name: op
    for op in (
        LINEAR,
        LOGITS,
        RMS_NORM,
        FUSED_ADD_RMS_NORM,
        SILU_AND_MUL,
        ROTARY,
        ROPE_QKV,
        QK_NORM_ROPE,
        ROPE_STORE,
        QK_NORM_ROPE_STORE,
        ADD_NORM_LINEAR,
        ADD_NORM_GATED,
        ADD_NORM_ROUTE,
        TOPK_SOFTMAX,
        FUSED_MOE,
        ARGMAX,
        LOG_SOFTMAX,
        APPLY_BITMASK,
        SAMPLE_TOKENS,
    )
}
