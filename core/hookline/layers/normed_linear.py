"""A linear layer with the norm before it, and the activation after it, so that an op can do them in one pass.

Shape letters: T tokens, H hidden, O output features, I width of a gated MLP, J = 2I.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hookline.layers.activation import gated_activation
from hookline.layers.ops import Ops

if TYPE_CHECKING:
    from hookline.layers.linear import Linear, NormedProjection
    from hookline.layers.norm import RMSNorm


class NormedLinear:
    """linear(norm(x + residual)), and the new residual stream. Made by ``BuildContext``, usable after ``bind``.

    With adapters in the pass, and for weight formats without a fused form, it runs as its parts.
    """

    __slots__ = ("_activate", "_fused", "_gate", "linear", "norm")

    def __init__(self, norm: RMSNorm, linear: Linear, activation: str | None, ops: Ops) -> None:
        """``activation`` is the checkpoint's word for that of a gated MLP, or ``None`` for a plain product."""
        self.norm = norm
        self.linear = linear
        self._gate = activation
        self._activate = None if activation is None else gated_activation(activation, ops)
        self._fused: NormedProjection | None = None

    def bind(self, ops: Ops) -> None:
        """Fix the fused form over loaded weights, if the weight format has one."""
        self._fused = self.linear.bind_normed(self.norm.weight, self.norm.eps, self._gate, ops)

    def forward(self, x_TH: Tensor, residual_TH: Tensor | None, lora: object | None) -> tuple[Tensor, Tensor]:
        """([T, O], or [T, I] with an activation; x + residual). Use neither argument afterwards.

        Without ``residual`` x itself is the stream. ``lora`` is ``ForwardBatch.lora``.
        """
        if lora is None and self._fused is not None:
            return self._fused(x_TH, residual_TH)
        if residual_TH is None:
            normed, total = self.norm.forward(x_TH), x_TH
        else:
            normed, total = self.norm.add(x_TH, residual_TH)
        out = self.linear.forward(normed, lora)
        return (out if self._activate is None else self._activate(out)), total
