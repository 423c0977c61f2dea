"""An attention backend whose plans, like those of libraries that cut work on the host, hold for their lengths alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hookline.batch.forward_batch import AttentionGeometry
from tests.factories.dense_attention import DenseAttention, Plan


@dataclass(slots=True, kw_only=True)
class LengthPlan(Plan):
    #: Of each request; ``None`` before the first replay.
    lengths: list[int] | None = None


class ReplannedAttention(DenseAttention):
    """Gives NaN where the lengths on the device are not those that the host planned for."""

    def plan(self, geometry: AttentionGeometry) -> LengthPlan:
        return LengthPlan(geometry=geometry, lengths=list(geometry.seq_lens_cpu))

    def plan_capture(self, geometry: AttentionGeometry) -> LengthPlan:
        return LengthPlan(geometry=geometry)

    def replan(self, plan: LengthPlan, seq_lens_cpu: npt.NDArray[np.int64]) -> None:
        plan.lengths = seq_lens_cpu.tolist()

    def forward(self, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layer: Any, kv: Any, plan: Plan) -> Tensor:
        assert isinstance(plan, LengthPlan)
        out = super().forward(q_THD, k_TKD, v_TKD, layer, kv, plan)
        if plan.lengths is not None and plan.lengths != plan.geometry.seq_lens.tolist():
            out = out * float("nan")
        return out
