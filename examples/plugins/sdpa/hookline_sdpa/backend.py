"""SdpaAttention: one call of ``scaled_dot_product_attention`` for each request of a pass.

Shape letters: T tokens of the pass, B requests, Q new tokens of a request, L its tokens, N query heads, K key-value
heads, D head dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hookline.batch.forward_batch import AttentionGeometry, MaskKind
from hookline.interfaces.attention import AttentionBackend, AttentionEnv, AttentionLayerInfo, KVPool
from hookline_sdpa.options import Options


@dataclass(slots=True, kw_only=True)
class _Request:
    """One request of a pass."""

    #: Its rows of the pass.
    rows: slice
    num_new: int
    #: [L] slots of all its tokens; the new ones are the last.
    slots: Tensor
    #: window -> [Q, L'] of the tokens that are gathered for it; all layers of the pass share these.
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """One pass."""

    requests: list[_Request]
    kind: MaskKind
    window: int | None


class SdpaAttention(AttentionBackend):
    """Needs no memory beyond one request's keys and values, and no kernel of its own."""

    def __init__(self, env: AttentionEnv) -> None:
        super().__init__(env)
        options: Options = env.options
        self._expand_heads = options.expand_heads

    def plan(self, geometry: AttentionGeometry) -> _Plan:
        """Lengths come from the host; the table is only sliced, so nothing waits for the device."""
        if geometry.mask is MaskKind.TREE:
            raise ValueError("sdpa does not support tree masks; choose a backend that declares 'mask.tree'")
        longest = max(geometry.seq_lens_cpu, default=0)
        slots_BL = geometry.req_to_token[:, :longest].index_select(0, geometry.req_pool_indices)
        requests: list[_Request] = []
        start = 0
        for index, num_new in enumerate(geometry.extend_lens_cpu):
            rows = slice(start, start + num_new)
            # Entries after a request's length belong to nobody.
            slots = slots_BL[index, : geometry.seq_lens_cpu[index]]
            requests.append(_Request(rows=rows, num_new=num_new, slots=slots))
            start += num_new
        return _Plan(requests=requests, kind=geometry.mask, window=geometry.window)

    def forward(
        self,
        q_THD: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        layer: AttentionLayerInfo,
        kv: KVPool,
        plan: _Plan,
    ) -> Tensor:
        k_plane, v_plane = kv.planes(layer.layer_id)
        window = plan.window if layer.window is None else layer.window
        if plan.kind is MaskKind.FULL:
            window = None
        out_THD = q_THD.new_empty(q_THD.shape[0], layer.num_q_heads, layer.v_head_dim)
        for request in plan.requests:
            slots = request.slots[_first_visible(request, window) :]
            out_1NQD = scaled_dot_product_attention(
                _heads_first(q_THD[request.rows]),
                self._gathered(k_plane, slots, layer),
                self._gathered(v_plane, slots, layer),
                attn_mask=self._mask(request, plan.kind, window),
                scale=layer.scale,
                enable_gqa=not self._expand_heads and layer.num_q_heads != layer.num_kv_heads,
            )
            out_THD[request.rows] = out_1NQD[0].transpose(0, 1)
        return out_THD

    def _gathered(self, plane: Tensor, slots_L: Tensor, layer: AttentionLayerInfo) -> Tensor:
        """Keys or values at these slots: [1, K, L, D], or [1, N, L, D] with expanded heads."""
        rows_LKD = plane.index_select(0, slots_L)
        if self._expand_heads:
            rows_LKD = rows_LKD.repeat_interleave(layer.num_q_heads // layer.num_kv_heads, dim=1)
        return _heads_first(rows_LKD)

    def _mask(self, request: _Request, kind: MaskKind, window: int | None) -> Tensor | None:
        """[Q, L'] true where a new token sees a gathered one; ``None`` where each sees all."""
        if request.num_new == 1 or kind is MaskKind.FULL:
            # A lone new token comes after everything else, and what is before its window is not gathered.
            return None
        if window not in request.masks:
            num_tokens = len(request.slots)
            position_Q = torch.arange(num_tokens - request.num_new, num_tokens, device=self.env.device).unsqueeze(1)
            position_L = torch.arange(_first_visible(request, window), num_tokens, device=self.env.device)
            mask_QL = position_L <= position_Q
            if window is not None:
                mask_QL &= position_L > position_Q - window
            request.masks[window] = mask_QL
        return request.masks[window]


def _first_visible(request: _Request, window: int | None) -> int:
    """The first token of a request that any of its new ones sees."""
    return 0 if window is None else max(0, len(request.slots) - request.num_new - window + 1)


def _heads_first(x_LND: Tensor) -> Tensor:
    """[1, N, L, D], as torch wants it."""
    return x_LND.transpose(0, 1).unsqueeze(0)
