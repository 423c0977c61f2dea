"""The attention kernels compile for a Hopper GPU: decode, prefill, and extend under a window."""

from __future__ import annotations

import pytest
import torch

from hookline.batch.forward_batch import AttentionGeometry
from hookline.batch.forward_mode import ForwardMode
from hookline.interfaces.attention import AttentionEnv, AttentionLayerInfo
from hookline_attention.triton_attention.backend import TritonAttention
from tests.factories.hopper_compiler import compiling_for_hopper

CPU = torch.device("cpu")
REQUESTS, CONTEXT, HEADS, KV_HEADS, HEAD_DIM = 3, 128, 8, 4, 128


class Planes:
    def planes(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        plane = torch.zeros(REQUESTS * CONTEXT, KV_HEADS, HEAD_DIM, dtype=torch.bfloat16)
        return plane, plane.clone()

    def store(self, layer_id: int, loc: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        raise AssertionError("attention stores nothing")


@pytest.mark.parametrize(
    ("new", "window", "kernels"),
    [
        (1, None, ["items_kernel", "decode_kernel", "merge_kernel"]),
        (40, None, ["prefill_kernel"]),
        (40, 16, ["extend_kernel"]),
    ],
    ids=["decode", "prefill", "window"],
)
def test_a_pass_compiles(new: int, window: int | None, kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TritonAttention(
        AttentionEnv(
            device=CPU,
            dtype=torch.bfloat16,
            page_size=1,
            num_q_heads=HEADS,
            num_kv_heads=KV_HEADS,
            head_dim=HEAD_DIM,
            max_context_len=CONTEXT,
            max_running_requests=REQUESTS,
        )
    )
    layer = AttentionLayerInfo(
        layer_id=0,
        num_q_heads=HEADS,
        num_kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        v_head_dim=HEAD_DIM,
        scale=HEAD_DIM**-0.5,
        window=window,
    )
    geometry = AttentionGeometry(
        mode=ForwardMode.DECODE if new == 1 else ForwardMode.EXTEND,
        req_to_token=torch.zeros(REQUESTS, CONTEXT, dtype=torch.int32),
        req_pool_indices=torch.arange(REQUESTS),
        seq_lens=torch.full((REQUESTS,), CONTEXT),
        prefix_lens=torch.full((REQUESTS,), CONTEXT - new),
        seq_lens_cpu=[CONTEXT] * REQUESTS,
        prefix_lens_cpu=[CONTEXT - new] * REQUESTS,
        extend_lens_cpu=[new] * REQUESTS,
        out_cache_loc=torch.zeros(REQUESTS * new, dtype=torch.int64),
        page_size=1,
    )
    qkv = torch.zeros(REQUESTS * new, HEADS + 2 * KV_HEADS, HEAD_DIM, dtype=torch.bfloat16)
    q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], dim=1)
    with compiling_for_hopper(monkeypatch) as compiled:
        plan = backend.plan(geometry)
        backend.prepare(plan, geometry)
        backend.forward(q, k, v, layer, Planes(), plan)
    assert compiled == kernels
