"""PackedAttention: segments see themselves whole and nothing else, on a backend as on torch."""

from __future__ import annotations

import pytest
import torch

from hookline.interfaces.attention import AttentionEnv
from hookline.layers.packed_attention import PackedAttention
from hookline_attention.torch_native import TorchNativeAttention

CPU = torch.device("cpu")
HEADS, DIM = 3, 12


def packed(*, on_backend: bool) -> PackedAttention:
    env = AttentionEnv(
        device=CPU,
        dtype=torch.float32,
        page_size=1,
        num_q_heads=HEADS,
        num_kv_heads=HEADS,
        head_dim=DIM,
        max_context_len=64,
        max_running_requests=8,
    )
    return PackedAttention(HEADS, DIM, CPU, TorchNativeAttention(env) if on_backend else None, DIM**-0.5)


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    weights = (torch.einsum("qnd,knd->nqk", q, k) * DIM**-0.5).softmax(-1)
    return torch.einsum("nqk,knd->qnd", weights, v).reshape(len(q), -1)


@pytest.mark.parametrize("on_backend", [True, False])
@pytest.mark.parametrize("lengths", [[5], [1], [4, 4, 4], [7, 1, 7, 7, 2], [1, 1, 1], [33, 70]])
def test_each_segment_sees_itself_whole(lengths: list[int], on_backend: bool) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    q, k, v = (torch.randn(sum(lengths), HEADS, DIM, generator=generator) for _ in range(3))
    attention = packed(on_backend=on_backend)
    found = attention.forward(q, k, v, attention.plan(lengths))
    parts = [by_hand(*part) for part in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)]
    torch.testing.assert_close(found, torch.cat(parts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("on_backend", [True, False])
def test_a_plan_serves_all_layers(on_backend: bool) -> None:
    attention = packed(on_backend=on_backend)
    plan = attention.plan([3, 2])
    for seed in range(2):
        x = torch.randn(5, HEADS, DIM, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(attention.forward(x, x, x, plan)[3:], by_hand(x[3:], x[3:], x[3:]))
