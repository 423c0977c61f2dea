"""Normalisation: RMS norms of decoders, layer norms of encoders."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hookline.layers.ops import FUSED_ADD_RMS_NORM, RMS_NORM, Ops


class RMSNorm:
    """Root-mean-square norm over the hidden dimension."""

    __slots__ = ("_add_norm", "_norm", "eps", "weight")

    def __init__(self, weight_H: Tensor, eps: float, ops: Ops) -> None:
        self.weight = weight_H
        self.eps = eps
        self._norm = ops.request(RMS_NORM)
        self._add_norm = ops.request(FUSED_ADD_RMS_NORM)

    def forward(self, x_TH: Tensor) -> Tensor:
        """norm(x)."""
        return self._norm(x_TH, self.weight, self.eps)

    def add(self, x_TH: Tensor, residual_TH: Tensor) -> tuple[Tensor, Tensor]:
        """(norm(x + residual), x + residual). Neither argument may be used afterwards."""
        return self._add_norm(x_TH, residual_TH, self.weight, self.eps)


class LayerNorm:
    """Mean and variance norm over the last dimension, with weight and bias."""

    __slots__ = ("bias", "eps", "weight")

    def __init__(self, weight_H: Tensor, bias_H: Tensor, eps: float) -> None:
        self.weight = weight_H
        self.bias = bias_H
        self.eps = eps

    def forward(self, x_TH: Tensor) -> Tensor:
        """norm(x)."""
        return F.layer_norm(x_TH, self.weight.shape, self.weight, self.bias, self.eps)
