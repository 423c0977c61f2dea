"""The attention layer: stores new keys and values, then asks the backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hookline.interfaces.attention import AttentionLayerInfo

if TYPE_CHECKING:
    from hookline.batch.forward_batch import ForwardBatch


class Attention:
    """Attention of one layer over the paged KV cache."""

    __slots__ = ("_layer_id", "_out_features", "info")

    def __init__(self, info: AttentionLayerInfo) -> None:
        self.info = info
        self._layer_id = info.layer_id
        self._out_features = info.num_q_heads * info.v_head_dim

    def forward(self, q_TND: Tensor, k_TKD: Tensor, v_TKD: Tensor, batch: ForwardBatch) -> Tensor:
        """Store k and v in the cache and attend: [T, num_q_heads * v_head_dim], heads side by side."""
        batch.kv.store(self._layer_id, batch.geometry.out_cache_loc, k_TKD, v_TKD)
        return self.attend(q_TND, k_TKD, v_TKD, batch)

    def attend(self, q_TND: Tensor, k_TKD: Tensor, v_TKD: Tensor, batch: ForwardBatch) -> Tensor:
        """The same for k and v that are in the cache already."""
        out = batch.attention.forward(q_TND, k_TKD, v_TKD, self.info, batch.kv, batch.attention_plan)
        return out.reshape(-1, self._out_features)
