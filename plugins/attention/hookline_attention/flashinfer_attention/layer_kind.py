"""LayerKind: what FlashInfer plans and compiles for. Layers of one kind share a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hookline.interfaces.attention import AttentionLayerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKind:
    """Equal for layers of which one plan serves all; their scales are told to each run."""

    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    #: Tokens before itself that a token sees; -1: all.
    window_left: int
    #: 0: none.
    softcap: float
    kv_dtype: torch.dtype

    @classmethod
    def of(cls, layer: AttentionLayerInfo, window: int | None, kv_dtype: torch.dtype) -> LayerKind:
        """The kind of a layer whose tokens see ``window`` tokens, or all; ``ValueError`` for one that cannot run."""
        if layer.v_head_dim != layer.head_dim:
            raise ValueError(
                f"attention backend 'flashinfer' needs values of the size of keys; layer {layer.layer_id} has keys of "
                f"{layer.head_dim} and values of {layer.v_head_dim}: use --attention-backend triton"
            )
        if layer.sinks is not None:
            raise ValueError(
                f"attention backend 'flashinfer' has no sinks, and layer {layer.layer_id} has: "
                "use --attention-backend triton"
            )
        return cls(
            num_q_heads=layer.num_q_heads,
            num_kv_heads=layer.num_kv_heads,
            head_dim=layer.head_dim,
            window_left=-1 if window is None else window - 1,
            softcap=layer.softcap or 0.0,
            kv_dtype=kv_dtype,
        )

    def sizes(self, dtype: torch.dtype, page_size: int) -> dict[str, Any]:
        """The arguments of FlashInfer's ``plan`` functions that all of them have.

        The scale is left to ``run``, as the scale of the queries.
        """
        return {
            "num_qo_heads": self.num_q_heads,
            "num_kv_heads": self.num_kv_heads,
            "page_size": page_size,
            "window_left": self.window_left,
            "logits_soft_cap": self.softcap,
            "sm_scale": 1.0,
            "q_data_type": dtype,
            "kv_data_type": self.kv_dtype,
        }
