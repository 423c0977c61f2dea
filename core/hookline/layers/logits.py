"""The output head: hidden states to logits."""

from __future__ import annotations

from torch import Tensor

from hookline.layers.ops import LOGITS, Ops


class LMHead:
    """Logits over the vocabulary; its weight [V, H] may be the embedding's."""

    __slots__ = ("_logits", "weight")

    def __init__(self, weight_VH: Tensor, ops: Ops) -> None:
        self.weight = weight_VH
        self._logits = ops.request(LOGITS)

    def forward(self, hidden_SH: Tensor) -> Tensor:
        """[S, V] in float32, whatever the compute dtype: sampling needs the range."""
        return self._logits(hidden_SH, self.weight)
