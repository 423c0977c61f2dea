"""HybridAttention: one backend for prefills and mixed passes, another for decodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookline.interfaces.attention import AttentionBackend, AttentionEnv, AttentionLayerInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from hookline.batch.forward_batch import AttentionGeometry
    from hookline.interfaces.attention import KVPool


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan, and whose it is."""

    backend: AttentionBackend
    plan: Any


class HybridAttention(AttentionBackend):
    """Both read and write the same KV pool; each plans its own passes."""

    def __init__(self, env: AttentionEnv, prefill: AttentionBackend, decode: AttentionBackend) -> None:
        super().__init__(env)
        self.prefill = prefill
        self.decode = decode

    def plan(self, geometry: AttentionGeometry) -> _Planned:
        backend = self.decode if geometry.mode.is_decode else self.prefill
        return _Planned(backend, backend.plan(geometry))

    def plan_capture(self, geometry: AttentionGeometry) -> _Planned:
        return _Planned(self.decode, self.decode.plan_capture(geometry))

    def replan(self, plan: _Planned, seq_lens_cpu: npt.NDArray[np.int64]) -> None:
        plan.backend.replan(plan.plan, seq_lens_cpu)

    def prepare(self, plan: _Planned, geometry: AttentionGeometry) -> None:
        plan.backend.prepare(plan.plan, geometry)

    def forward(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        layer: AttentionLayerInfo,
        kv: KVPool,
        plan: _Planned,
    ) -> torch.Tensor:
        return plan.backend.forward(q_THD, k_TKD, v_TKD, layer, kv, plan.plan)
