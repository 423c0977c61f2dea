"""Attention of encoders: every token of a segment sees all tokens of the segment, and nothing is cached.

It runs on an attention backend with the feature "mask.full", whose KV pool is then the keys and values of the pass
themselves, or, without one, on torch's product.

Shape letters: T tokens of all segments, S segments, N heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hookline.batch.forward_batch import AttentionGeometry, MaskKind
from hookline.batch.forward_mode import ForwardMode
from hookline.interfaces.attention import AttentionBackend, AttentionLayerInfo

#: Makes a backend for layers of (heads, head dimension), or gives ``None`` where none fits.
BackendMaker = Callable[[int, int], AttentionBackend | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedPlan:
    """The segments of a pass; made once and used by all layers."""

    #: [S] tokens of each segment; they lie one after the other along T.
    lengths: tuple[int, ...]
    #: What the backend planned.
    backend_plan: Any = None


class _PassKV:
    """A KV pool that is the pass's own keys and values: slot t holds token t."""

    def __init__(self, k_TND: Tensor, v_TND: Tensor) -> None:
        self._planes = (k_TND, v_TND)

    def planes(self, layer_id: int) -> tuple[Tensor, Tensor]:
        return self._planes

    def store(self, layer_id: int, loc: Tensor, k: Tensor, v: Tensor) -> None:
        raise AssertionError("the keys of an encoder are stored already")


class PackedAttention:
    """Attention of all layers of one encoder."""

    def __init__(
        self, num_heads: int, head_dim: int, device: torch.device, backend: AttentionBackend | None, scale: float
    ) -> None:
        self._num_heads = num_heads
        self._head_dim = head_dim
        self._device = device
        self._backend = backend
        self._info = AttentionLayerInfo(
            layer_id=0,
            num_q_heads=num_heads,
            num_kv_heads=num_heads,
            head_dim=head_dim,
            v_head_dim=head_dim,
            scale=scale,
        )

    def plan(self, lengths: Sequence[int]) -> PackedPlan:
        """Prepare a pass over segments of these lengths; does not wait for the device."""
        if self._backend is None:
            return PackedPlan(lengths=tuple(lengths))
        count, longest = len(lengths), max(lengths)
        lens_S = send_ints(lengths, self._device)
        starts_S = lens_S.cumsum(0) - lens_S
        columns = torch.arange(longest, device=self._device)
        last = torch.clamp(lens_S - 1, min=0).unsqueeze(1)
        geometry = AttentionGeometry(
            mode=ForwardMode.EXTEND,
            req_to_token=(starts_S.unsqueeze(1) + torch.minimum(columns, last)).to(torch.int32),
            req_pool_indices=torch.arange(count, device=self._device),
            seq_lens=lens_S,
            prefix_lens=torch.zeros_like(lens_S),
            seq_lens_cpu=list(lengths),
            prefix_lens_cpu=[0] * count,
            extend_lens_cpu=list(lengths),
            out_cache_loc=torch.arange(sum(lengths), device=self._device),
            page_size=1,
            mask=MaskKind.FULL,
        )
        plan = self._backend.plan(geometry)
        self._backend.prepare(plan, geometry)
        return PackedPlan(lengths=tuple(lengths), backend_plan=plan)

    def forward(self, q_TND: Tensor, k_TND: Tensor, v_TND: Tensor, plan: PackedPlan) -> Tensor:
        """Attention output, heads side by side: [T, N * D]."""
        if self._backend is not None:
            kv = _PassKV(k_TND, v_TND)
            out_TND = self._backend.forward(q_TND, k_TND, v_TND, self._info, kv, plan.backend_plan)
        else:
            out_TND = self._in_runs(q_TND, k_TND, v_TND, plan.lengths)
        return out_TND.reshape(-1, self._num_heads * self._head_dim)

    def _in_runs(self, q_TND: Tensor, k_TND: Tensor, v_TND: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Neighbouring segments of one length in one product."""
        pieces = []
        start = index = 0
        while index < len(lengths):
            length = lengths[index]
            count = 1
            while index + count < len(lengths) and lengths[index + count] == length:
                count += 1
            end = start + count * length
            q, k, v = (
                x_TND[start:end].view(count, length, self._num_heads, self._head_dim).transpose(1, 2)
                for x_TND in (q_TND, k_TND, v_TND)
            )
            out = scaled_dot_product_attention(q, k, v, scale=self._info.scale)
            pieces.append(out.transpose(1, 2).reshape(end - start, self._num_heads, self._head_dim))
            start, index = end, index + count
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def send_ints(values: Sequence[int], device: torch.device) -> Tensor:
    """The values as int64 on the device, without waiting for it."""
    tensor = torch.tensor(values, dtype=torch.int64)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
