"""Token embeddings."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


class Embedding:
    """Rows of a table [V, H] by token id."""

    __slots__ = ("weight",)

    def __init__(self, weight_VH: Tensor) -> None:
        self.weight = weight_VH

    def forward(self, ids_T: Tensor) -> Tensor:
        """[T, H]."""
        return F.embedding(ids_T, self.weight)
