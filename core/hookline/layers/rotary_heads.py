"""From a fused QKV projection to rotated heads, with or without a norm of each head.

Shape letters: T tokens, O features of the projection, N heads, D head dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hookline.layers.ops import QK_NORM_ROPE, QK_NORM_ROPE_STORE, ROPE_QKV, ROPE_STORE, Ops

if TYPE_CHECKING:
    from hookline.batch.forward_batch import ForwardBatch
    from hookline.layers.attention import Attention


class RotaryHeads:
    """Splits q, k and v and rotates q and k."""

    __slots__ = ("_num_kv", "_num_q", "_rope", "_rope_store")

    def __init__(self, num_q_heads: int, num_kv_heads: int, ops: Ops) -> None:
        self._num_q = num_q_heads
        self._num_kv = num_kv_heads
        self._rope = ops.request(ROPE_QKV)
        self._rope_store = ops.request(ROPE_STORE)

    def forward(self, qkv_TO: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, num_q, D], k and v [T, num_kv, D]."""
        return self._rope(qkv_TO, cos_T1D, sin_T1D, self._num_q, self._num_kv)

    def attend(
        self, qkv_TO: Tensor, cos_T1D: Tensor, sin_T1D: Tensor, attention: Attention, batch: ForwardBatch
    ) -> Tensor:
        """Rotate, store k and v in the cache and attend: [T, num_q * D]. ``qkv_TO`` may be written."""
        k_plane, v_plane = batch.kv.planes(attention.info.layer_id)
        loc = batch.geometry.out_cache_loc
        q, k, v = self._rope_store(qkv_TO, cos_T1D, sin_T1D, self._num_q, self._num_kv, k_plane, v_plane, loc)
        return attention.attend(q, k, v, batch)


class NormedRotaryHeads:
    """As ``RotaryHeads``, with an RMS norm of every q and k head before the rotation."""

    __slots__ = ("_eps", "_k_weight", "_norm_rope", "_norm_rope_store", "_num_kv", "_num_q", "_q_weight", "_weight_ND")

    def __init__(
        self, num_q_heads: int, num_kv_heads: int, q_weight_D: Tensor, k_weight_D: Tensor, eps: float, ops: Ops
    ) -> None:
        self._num_q = num_q_heads
        self._num_kv = num_kv_heads
        self._q_weight = q_weight_D
        self._k_weight = k_weight_D
        self._eps = eps
        self._norm_rope = ops.request(QK_NORM_ROPE)
        self._norm_rope_store = ops.request(QK_NORM_ROPE_STORE)
        self._weight_ND = q_weight_D.new_empty(num_q_heads + num_kv_heads, q_weight_D.shape[0])

    def bind(self) -> None:
        """Spread the two loaded weights over the heads, in place."""
        torch.cat(
            (self._q_weight.expand(self._num_q, -1), self._k_weight.expand(self._num_kv, -1)), out=self._weight_ND
        )

    def forward(self, qkv_TO: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, num_q, D], k and v [T, num_kv, D]."""
        return self._norm_rope(qkv_TO, self._weight_ND, self._eps, cos_T1D, sin_T1D, self._num_q, self._num_kv)

    def attend(
        self, qkv_TO: Tensor, cos_T1D: Tensor, sin_T1D: Tensor, attention: Attention, batch: ForwardBatch
    ) -> Tensor:
        """Norm, rotate, store k and v in the cache and attend: [T, num_q * D]. ``qkv_TO`` may be written."""
        k_plane, v_plane = batch.kv.planes(attention.info.layer_id)
        loc = batch.geometry.out_cache_loc
        q, k, v = self._norm_rope_store(
            qkv_TO, self._weight_ND, self._eps, cos_T1D, sin_T1D, self._num_q, self._num_kv, k_plane, v_plane, loc
        )
        return attention.attend(q, k, v, batch)
