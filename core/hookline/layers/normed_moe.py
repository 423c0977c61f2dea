"""A sparse MLP with the norm before it, so that an op can do norm and routing in one pass.

Shape letters: T tokens, H hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hookline.layers.ops import Ops

if TYPE_CHECKING:
    from hookline.layers.linear import NormedRouter
    from hookline.layers.moe import MoE
    from hookline.layers.norm import RMSNorm


class NormedMoE:
    """moe(norm(x + residual)), and the new residual stream. Made by ``BuildContext``, usable after ``bind``.

    With adapters in the pass, and for routers without a fused form, it runs as its parts.
    """

    __slots__ = ("_route", "moe", "norm")

    def __init__(self, norm: RMSNorm, moe: MoE) -> None:
        self.norm = norm
        self.moe = moe
        self._route: NormedRouter | None = None

    def bind(self, ops: Ops) -> None:
        """Fix the fused routing over loaded weights, if the router's format has one."""
        moe = self.moe
        self._route = moe.router.bind_router(self.norm.weight, self.norm.eps, moe.top_k, moe.renormalize, ops)

    def forward(self, x_TH: Tensor, residual_TH: Tensor, lora: object | None) -> tuple[Tensor, Tensor]:
        """([T, H], x + residual). Use neither argument afterwards. ``lora`` is ``ForwardBatch.lora``."""
        if lora is None and self._route is not None:
            normed_TH, total_TH, weights_TK, ids_TK = self._route(x_TH, residual_TH)
            return self.moe.apply(normed_TH, weights_TK, ids_TK), total_TH
        normed_TH, total_TH = self.norm.add(x_TH, residual_TH)
        return self.moe.forward(normed_TH, lora), total_TH
