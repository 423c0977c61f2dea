"""Broken attention backends. Each class of tests names the test that must fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from hookline.batch.forward_batch import AttentionGeometry
from hookline.interfaces.attention import AttentionBackendSpec, AttentionLayerInfo
from hookline.testkit.attention import AttentionSuite
from tests.factories.dense_attention import DenseAttention, Plan


def spec(target: str, features: Sequence[str] = ()) -> AttentionBackendSpec:
    return AttentionBackendSpec(
        name="broken",
        target=f"{__name__}:{target}",
        features=frozenset(features),
        summary="broken on purpose",
    )


class ForgetsThePrefix(DenseAttention):
    """Attends to the new tokens only."""

    def seen(self, layer: AttentionLayerInfo, geometry: AttentionGeometry, start: int, prefix: int, new: int) -> Tensor:
        seen_QL = super().seen(layer, geometry, start, prefix, new)
        seen_QL[:, : prefix if new > 1 else 0] = False
        return seen_QL


class TestForgetsThePrefix(AttentionSuite):
    spec = spec("ForgetsThePrefix")
    caught_by = "test_passes"


class ReadsTheSink(DenseAttention):
    """Pads with slot 0, whose numbers have no weight but may be NaN."""

    def prepare(self, plan: Plan, geometry: AttentionGeometry) -> None:
        super().prepare(plan, geometry)
        if plan.slots is not None and plan.real is not None:
            plan.slots = plan.slots * plan.real


class TestReadsTheSink(AttentionSuite):
    spec = spec("ReadsTheSink")
    caught_by = "test_passes"


class ReadsStaleEntries(DenseAttention):
    """Takes the table to hold nothing beyond a request's tokens."""

    def prepare(self, plan: Plan, geometry: AttentionGeometry) -> None:
        super().prepare(plan, geometry)
        if plan.slots is not None:
            plan.real = torch.ones_like(plan.slots, dtype=torch.bool)


class TestReadsStaleEntries(AttentionSuite):
    spec = spec("ReadsStaleEntries")
    caught_by = "test_passes"


class TakesRowsInOrder(DenseAttention):
    """Takes request i to have row i of the table."""

    def slots(self, geometry: AttentionGeometry, index: int, length: int) -> Tensor:
        return geometry.req_to_token[index, :length].long()


class TestTakesRowsInOrder(AttentionSuite):
    spec = spec("TakesRowsInOrder")
    caught_by = "test_passes"


class TakesPagesInOrder(DenseAttention):
    """Counts pages from a request's first one."""

    def slots(self, geometry: AttentionGeometry, index: int, length: int) -> Tensor:
        slots_L = super().slots(geometry, index, length)
        if geometry.page_size == 1:
            return slots_L
        return slots_L[0] + torch.arange(length, device=slots_L.device)


class TestTakesPagesInOrder(AttentionSuite):
    spec = spec("TakesPagesInOrder")
    caught_by = "test_page_sizes"


class InterleavesHeads(DenseAttention):
    """Gives query head i key-value head i modulo their number."""

    def heads(self, layer: AttentionLayerInfo) -> Tensor:
        return torch.arange(layer.num_q_heads, device=self.env.device) % layer.num_kv_heads


class TestInterleavesHeads(AttentionSuite):
    spec = spec("InterleavesHeads")
    caught_by = "test_grouped_heads"


class KeepsKeys(DenseAttention):
    """Gathers keys once a pass, for the first layer that asks."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._of: Plan | None = None
        self._planes: tuple[Tensor, Tensor] | None = None

    def forward(self, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layer: Any, kv: Any, plan: Plan) -> Tensor:
        if self._of is not plan or self._planes is None:
            self._of, self._planes = plan, kv.planes(layer.layer_id)
        planes = self._planes

        class First:
            def planes(self, layer_id: int) -> tuple[Tensor, Tensor]:
                return planes

        return super().forward(q_THD, k_TKD, v_TKD, layer, First(), plan)  # type: ignore[arg-type]


class TestKeepsKeys(AttentionSuite):
    spec = spec("KeepsKeys")
    caught_by = "test_a_plan_serves_every_layer"


class WaitsInPlan(DenseAttention):
    """Asks the device for the longest request."""

    def plan(self, geometry: AttentionGeometry) -> Plan:
        if geometry.batch_size:
            geometry.seq_lens.max().item()
        return super().plan(geometry)


class TestWaitsInPlan(AttentionSuite):
    spec = spec("WaitsInPlan")
    caught_by = "test_planning_does_not_wait_for_the_device"


class AnswersInFloat32(DenseAttention):
    """Never goes back to the dtype of q."""

    def attend(self, q_BQND: Tensor, *rest: Any) -> Tensor:
        return super().attend(q_BQND.float(), *rest)

    def forward(self, q_THD: Tensor, *rest: Any) -> Tensor:
        return super().forward(q_THD.float(), *rest)


class TestAnswersInFloat32(AttentionSuite):
    spec = spec("AnswersInFloat32")
    caught_by = "test_dtypes"


class Options(BaseModel):
    query_block: int = 64


class IgnoresOptions(DenseAttention):
    """Has an option that changes nothing."""


class TestIgnoresOptions(AttentionSuite):
    spec = spec("IgnoresOptions")
    caught_by = "test_options_are_read"

    @classmethod
    def checked_options(cls) -> Options:
        return Options()


class WidensTheWindow(DenseAttention):
    """Takes a window of w for the token itself and w before it."""

    def window(self, layer: AttentionLayerInfo, geometry: AttentionGeometry) -> int | None:
        window = super().window(layer, geometry)
        return None if window is None else window + 1


class TestWidensTheWindow(AttentionSuite):
    spec = spec("WidensTheWindow", ["mask.window"])
    caught_by = "test_a_window_shows_the_token_itself_and_those_before"


class ForgetsTheSinks(DenseAttention):
    """Normalises without them."""

    def softmax(self, scores_BNQL: Tensor, layer: AttentionLayerInfo) -> Tensor:
        return torch.softmax(scores_BNQL, -1)


class TestForgetsTheSinks(AttentionSuite):
    spec = spec("ForgetsTheSinks", ["sinks"])
    caught_by = "test_sinks_take_their_share"


class CapturesLengths(DenseAttention):
    """Takes lengths from the host, which a captured pass reads once."""

    def prepare(self, plan: Plan, geometry: AttentionGeometry) -> None:
        super().prepare(plan, geometry)
        if plan.real is not None:
            lengths = torch.tensor(geometry.seq_lens_cpu, device=plan.real.device)
            plan.real = torch.arange(plan.real.shape[1], device=plan.real.device) < lengths.unsqueeze(1)


class TestCapturesLengths(AttentionSuite):
    spec = spec("CapturesLengths", ["graphs"])
    caught_by = "test_a_captured_pass_follows_the_device_tensors"


class DependsOnItsNeighbours(DenseAttention):
    """Takes every pass for one that needs no care."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        object.__setattr__(self.env, "deterministic", False)

    def attend(self, q_BQND: Tensor, k_BLKD: Tensor, v_BLKV: Tensor, seen_BQL: Any, layer: Any) -> Tensor:
        # A split of the keys that follows the number of queries, as kernels choose theirs.
        half = min(k_BLKD.shape[1] - 1, q_BQND.shape[1])
        order = torch.arange(k_BLKD.shape[1], device=q_BQND.device).roll(half)
        return super().attend(q_BQND, k_BLKD[:, order], v_BLKV[:, order], seen_BQL[..., order], layer)


class TestDependsOnItsNeighbours(AttentionSuite):
    spec = spec("DependsOnItsNeighbours", ["deterministic"])
    caught_by = "test_deterministic_numbers_depend_on_the_request_alone"
