"""An attention backend that has every feature and no speed. Broken ones are made from it by changing one line.

Shape letters: T tokens of the pass, B requests, Q new tokens of a request, L its tokens, C columns of the
table, N query heads, K key-value heads, G query heads per key-value head, D head dimension, V value dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hookline.batch.forward_batch import AttentionGeometry, MaskKind
from hookline.interfaces.attention import AttentionBackend, AttentionLayerInfo, KVPool

FEATURES = frozenset({"mask.full", "mask.window", "mask.tree", "softcap", "sinks", "graphs", "mixed", "deterministic"})


@dataclass(slots=True, kw_only=True)
class Plan:
    geometry: AttentionGeometry
    #: Of a decode pass, made by ``prepare``: [B, C] slots, the first of the request's own where it has none,
    #: and [B, C] which of them are its own.
    slots: Tensor | None = None
    real: Tensor | None = None


class DenseAttention(AttentionBackend):
    """Decode for all requests at once, so that it can be captured; extend request by request."""

    def plan(self, geometry: AttentionGeometry) -> Plan:
        return Plan(geometry=geometry)

    def prepare(self, plan: Plan, geometry: AttentionGeometry) -> None:
        if not geometry.mode.is_decode:
            return
        longest = max(geometry.seq_lens_cpu)
        table_BC = geometry.req_to_token.index_select(0, geometry.req_pool_indices)[:, :longest]
        plan.real = torch.arange(longest, device=self.env.device) < geometry.seq_lens.unsqueeze(1)
        plan.slots = torch.where(plan.real, table_BC, table_BC[:, :1])

    def forward(
        self,
        q_THD: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        layer: AttentionLayerInfo,
        kv: KVPool,
        plan: Plan,
    ) -> Tensor:
        k_plane, v_plane = kv.planes(layer.layer_id)
        geometry = plan.geometry
        if self.env.deterministic:
            return self._token_by_token(q_THD, k_plane, v_plane, layer, geometry)
        if geometry.mode.is_decode:
            assert plan.slots is not None
            assert plan.real is not None
            seen_BC = plan.real
            window = self.window(layer, geometry)
            if window is not None:
                column_C = torch.arange(seen_BC.shape[1], device=self.env.device)
                seen_BC = seen_BC & (column_C >= geometry.seq_lens.unsqueeze(1) - window)
            out = self.attend(q_THD.unsqueeze(1), k_plane[plan.slots], v_plane[plan.slots], seen_BC.unsqueeze(1), layer)
            return out.squeeze(1)
        out_THV = q_THD.new_empty(q_THD.shape[0], layer.num_q_heads, layer.v_head_dim)
        for index, start, prefix, new in requests(geometry):
            slots_L = self.slots(geometry, index, prefix + new)
            seen_QL = self.seen(layer, geometry, start, prefix, new)
            rows = slice(start, start + new)
            out_THV[rows] = self.attend(
                q_THD[None, rows], k_plane[None, slots_L], v_plane[None, slots_L], seen_QL[None], layer
            )[0]
        return out_THV

    def _token_by_token(
        self, q_THD: Tensor, k_plane: Tensor, v_plane: Tensor, layer: AttentionLayerInfo, geometry: AttentionGeometry
    ) -> Tensor:
        out_THV = q_THD.new_empty(q_THD.shape[0], layer.num_q_heads, layer.v_head_dim)
        for index, start, prefix, new in requests(geometry):
            slots_L = self.slots(geometry, index, prefix + new)
            seen_QL = self.seen(layer, geometry, start, prefix, new)
            for token in range(new):
                own = slots_L[seen_QL[token]]
                q = q_THD[start + token].clone().view(1, 1, layer.num_q_heads, layer.head_dim)
                out_THV[start + token] = self.attend(q, k_plane[None, own], v_plane[None, own], None, layer)[0, 0]
        return out_THV

    # --- what the broken ones change ---

    def slots(self, geometry: AttentionGeometry, index: int, length: int) -> Tensor:
        """[L] of one request of the pass."""
        return geometry.req_to_token[geometry.req_pool_indices[index], :length].long()

    def window(self, layer: AttentionLayerInfo, geometry: AttentionGeometry) -> int | None:
        return geometry.window if layer.window is None else layer.window

    def seen(self, layer: AttentionLayerInfo, geometry: AttentionGeometry, start: int, prefix: int, new: int) -> Tensor:
        """[Q, L]: which tokens the new ones see."""
        device = self.env.device
        query = torch.arange(prefix, prefix + new, device=device).unsqueeze(1)
        key = torch.arange(prefix + new, device=device)
        if geometry.mask is MaskKind.FULL:
            return torch.ones(new, prefix + new, dtype=torch.bool, device=device)
        if geometry.mask is MaskKind.TREE:
            assert geometry.tree_mask is not None
            tree = geometry.tree_mask[start : start + new, :new]
            return torch.cat((torch.ones(new, prefix, dtype=torch.bool, device=device), tree), 1)
        window = self.window(layer, geometry)
        return key <= query if window is None else (key <= query) & (key > query - window)

    def attend(
        self, q_BQND: Tensor, k_BLKD: Tensor, v_BLKV: Tensor, seen_BQL: Tensor | None, layer: AttentionLayerInfo
    ) -> Tensor:
        """[B, Q, N, V] in q's dtype."""
        group = self.heads(layer)
        k, v = k_BLKD.float()[:, :, group], v_BLKV.float()[:, :, group]
        scores_BNQL = torch.einsum("bqnd,blnd->bnql", q_BQND.float(), k) * layer.scale
        if layer.softcap is not None:
            scores_BNQL = layer.softcap * torch.tanh(scores_BNQL / layer.softcap)
        if seen_BQL is not None:
            scores_BNQL = scores_BNQL.masked_fill(~seen_BQL.unsqueeze(1), float("-inf"))
        weights_BNQL = self.softmax(scores_BNQL, layer)
        return torch.einsum("bnql,blnv->bqnv", weights_BNQL, v).to(q_BQND.dtype)

    def softmax(self, scores_BNQL: Tensor, layer: AttentionLayerInfo) -> Tensor:
        if layer.sinks is None:
            return torch.softmax(scores_BNQL, -1)
        batch, heads, queries, _ = scores_BNQL.shape
        sinks = layer.sinks.view(1, heads, 1, 1).expand(batch, heads, queries, 1)
        return torch.softmax(torch.cat((scores_BNQL, sinks), -1), -1)[..., :-1]

    def heads(self, layer: AttentionLayerInfo) -> Tensor:
        """[N]: the key-value head of each query head."""
        return torch.arange(layer.num_q_heads, device=self.env.device) // (layer.num_q_heads // layer.num_kv_heads)


def requests(geometry: AttentionGeometry) -> list[tuple[int, int, int, int]]:
    """(index, first row, prefix, new) of each request of the pass."""
    answer: list[tuple[int, int, int, int]] = []
    start = 0
    for index, (prefix, new) in enumerate(zip(geometry.prefix_lens_cpu, geometry.extend_lens_cpu, strict=True)):
        answer.append((index, start, prefix, new))
        start += new
    return answer
