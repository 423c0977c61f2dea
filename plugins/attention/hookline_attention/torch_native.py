"""torch_native: attention by ``scaled_dot_product_attention`` over gathered keys, on any device.

It is the oracle in tests and what runs on CPU. Requests of similar lengths run together in one padded
product; a long extend runs alone in blocks of queries. With ``deterministic`` every token runs alone over
exactly its own keys, so that its result does not depend on its neighbours or on how a prompt was chunked.

Shape letters: T tokens of the pass, B requests of a group, Q queries of each, L keys of each, N query heads,
K key-value heads, G query heads per key-value head, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from hookline.batch.forward_batch import AttentionGeometry, MaskKind
from hookline.interfaces.attention import AttentionBackend, AttentionEnv, AttentionLayerInfo
from hookline_attention.gather import GatherBuffer
from hookline_attention.groups import CPU_GROUP_LIMIT, DEVICE_GROUP_LIMIT, Span, group_spans, spans_of
from hookline_attention.masks import QUERY_BLOCK, CausalMasks, additive, visible

if TYPE_CHECKING:
    from hookline.interfaces.attention import KVPool


@dataclass(slots=True, kw_only=True)
class _Group:
    """Requests that run together, right-padded to Q queries and L keys."""

    spans: list[Span]
    q_len: int
    kv_len: int
    #: [B * Q] rows of the pass that hold the queries; ``None``: all rows of the pass in order.
    rows: Tensor | None
    #: [n] rows of the padded output that are real, and their rows in the pass; ``None`` without padding.
    real: Tensor | None
    real_rows: Tensor | None
    #: [B * L] slots of the keys.
    slots: Tensor
    #: Additive, broadcasts to [B, 1, Q, L]; ``None``: everything is visible.
    mask: Tensor | None


@dataclass(slots=True, kw_only=True)
class _Plan:
    """One pass. Groups depend on a layer's window and are made when the first such layer asks."""

    geometry: AttentionGeometry
    spans: list[Span]
    num_tokens: int
    groups: dict[int | None, list[_Group]] = field(default_factory=dict)


def _attend_exactly(*args: Any, **kwargs: Any) -> Tensor:
    """torch's attention made of products: its fused kernels for GPUs want masks at addresses that views of a mask do
    not have."""
    with sdpa_kernel(SDPBackend.MATH):
        return scaled_dot_product_attention(*args, **kwargs)


class TorchNativeAttention(AttentionBackend):
    """See the module's docstring."""

    def __init__(self, env: AttentionEnv) -> None:
        super().__init__(env)
        self._masks = CausalMasks(env.dtype, env.device, env.max_context_len)
        self._attend: Callable[..., Tensor] = (
            scaled_dot_product_attention if env.device.type == "cpu" else _attend_exactly
        )
        self._keys = GatherBuffer(env.device)
        self._values = GatherBuffer(env.device)
        self._group_limit = CPU_GROUP_LIMIT if env.device.type == "cpu" else DEVICE_GROUP_LIMIT

    def plan(self, geometry: AttentionGeometry) -> _Plan:
        if geometry.mask is MaskKind.TREE:
            raise ValueError("torch_native does not support tree masks")
        spans = spans_of(geometry.extend_lens_cpu, geometry.seq_lens_cpu)
        return _Plan(geometry=geometry, spans=spans, num_tokens=sum(span.q_len for span in spans))

    def forward(
        self,
        q_THD: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        layer: AttentionLayerInfo,
        kv: KVPool,
        plan: _Plan,
    ) -> Tensor:
        window = plan.geometry.window if layer.window is None else layer.window
        groups = plan.groups.get(window)
        if groups is None:
            groups = plan.groups[window] = self._groups(plan, window)
        k_plane, v_plane = kv.planes(layer.layer_id)
        if len(groups) == 1 and groups[0].rows is None:
            return self._run(groups[0], q_THD, k_plane, v_plane, layer, window, plan.geometry.mask)
        out_THD = q_THD.new_empty(plan.num_tokens, layer.num_q_heads, layer.v_head_dim)
        for group in groups:
            rows = group.rows
            q_group = q_THD if rows is None else q_THD.index_select(0, rows)
            result = self._run(group, q_group, k_plane, v_plane, layer, window, plan.geometry.mask)
            if group.real is not None and group.real_rows is not None:
                out_THD.index_copy_(0, group.real_rows, result.index_select(0, group.real))
            else:
                assert rows is not None
                out_THD.index_copy_(0, rows, result)
        return out_THD

    # --- planning ---

    def _groups(self, plan: _Plan, window: int | None) -> list[_Group]:
        if self.env.deterministic:
            members = [[span] for span in plan.spans]
        else:
            head_dim = self.env.head_dim
            members = group_spans(
                plan.spans,
                q_size=self.env.num_q_heads * head_dim,
                kv_size=self.env.num_kv_heads * head_dim,
                limit=self._group_limit,
            )
        covers_all = len(members) == 1
        if covers_all and window is None and plan.num_tokens == plan.geometry.batch_size == len(plan.spans):
            return [self._decode_group(plan.geometry, plan.spans)]
        return [self._group(plan.geometry, spans, window, covers_all) for spans in members]

    def _decode_group(self, geometry: AttentionGeometry, spans: list[Span]) -> _Group:
        """Every request has one token and all run together: the pass's own tensors serve as they are."""
        kv_len = max(geometry.seq_lens_cpu)
        slots_BL = geometry.req_to_token[:, :kv_len].index_select(0, geometry.req_pool_indices)
        mask: Tensor | None = None
        if len(spans) > 1 and min(geometry.seq_lens_cpu) < kv_len:
            real_BL = torch.arange(kv_len, device=self.env.device) < geometry.seq_lens.unsqueeze(1)
            slots_BL = torch.where(real_BL, slots_BL, slots_BL[:, :1])
            mask = additive(real_BL, self.env.dtype).view(len(spans), 1, 1, kv_len)
        return _Group(
            spans=spans,
            q_len=1,
            kv_len=kv_len,
            rows=None,
            real=None,
            real_rows=None,
            slots=slots_BL.view(-1),
            mask=mask,
        )

    def _group(self, geometry: AttentionGeometry, spans: list[Span], window: int | None, covers_all: bool) -> _Group:
        device = self.env.device
        q_len = max(span.q_len for span in spans)
        # Keys before the first one that any query of the request sees are not gathered.
        first_keys = [0 if window is None else max(0, span.kv_len - span.q_len - window + 1) for span in spans]
        kv_lens = [span.kv_len - first for span, first in zip(spans, first_keys, strict=True)]
        kv_len = max(kv_lens)
        is_even = all(span.q_len == q_len for span in spans)

        index_B = torch.tensor([span.index for span in spans], device=device)
        first_B1 = torch.tensor(first_keys, device=device).unsqueeze(1)
        len_B1 = torch.tensor(kv_lens, device=device).unsqueeze(1)
        q_len_B1 = torch.tensor([span.q_len for span in spans], device=device).unsqueeze(1)
        slots_BL = self._slots(geometry, index_B, first_B1, len_B1, kv_len, any(first_keys))

        mask: Tensor | None = None
        if len(spans) > 1 or q_len == 1:
            mask = self._padded_mask(geometry.mask, len_B1, q_len_B1, q_len, kv_len, window)

        rows: Tensor | None = None
        real: Tensor | None = None
        if not (covers_all and is_even):
            start_B1 = torch.tensor([span.start for span in spans], device=device).unsqueeze(1)
            offset_Q = torch.arange(q_len, device=device)
            rows_BQ = start_B1 + torch.minimum(offset_Q, q_len_B1 - 1)
            rows = rows_BQ.view(-1)
            if not is_even:
                real = (offset_Q < q_len_B1).view(-1).nonzero().squeeze(1)
        return _Group(
            spans=spans,
            q_len=q_len,
            kv_len=kv_len,
            rows=rows,
            real=real,
            real_rows=None if rows is None or real is None else rows.index_select(0, real),
            slots=slots_BL.reshape(-1),
            mask=mask,
        )

    def _slots(
        self,
        geometry: AttentionGeometry,
        index_B: Tensor,
        first_B1: Tensor,
        len_B1: Tensor,
        kv_len: int,
        is_shifted: bool,
    ) -> Tensor:
        """[B, L] slots of the keys; padding repeats a request's own first key, which is always finite."""
        row_B = geometry.req_pool_indices.index_select(0, index_B)
        offset_L = torch.arange(kv_len, device=self.env.device)
        if is_shifted:
            column_BL = first_B1 + torch.minimum(offset_L, len_B1 - 1)
            return geometry.req_to_token.index_select(0, row_B).gather(1, column_BL)
        table_BL = geometry.req_to_token[:, :kv_len].index_select(0, row_B)
        if len(index_B) == 1:
            return table_BL
        return torch.where(offset_L < len_B1, table_BL, table_BL[:, :1])

    def _padded_mask(
        self, kind: MaskKind, len_B1: Tensor, q_len_B1: Tensor, q_len: int, kv_len: int, window: int | None
    ) -> Tensor | None:
        """[B, 1, Q, L]; ``None`` when every query sees every key."""
        key_L = torch.arange(kv_len, device=self.env.device)
        if q_len == 1 or kind is MaskKind.FULL:
            # A lone query is the last token of its keys, and a window was cut when the keys were gathered.
            allowed = (key_L < len_B1).view(-1, 1, 1, kv_len)
            if len_B1.shape[0] == 1:
                return None
            return additive(allowed.expand(-1, 1, q_len, kv_len), self.env.dtype)
        query_BQ = len_B1 - q_len_B1 + torch.minimum(torch.arange(q_len, device=self.env.device), q_len_B1 - 1)
        return additive(visible(query_BQ.unsqueeze(2), key_L, window), self.env.dtype).unsqueeze(1)

    # --- running ---

    def _run(
        self,
        group: _Group,
        q_RND: Tensor,
        k_plane: Tensor,
        v_plane: Tensor,
        layer: AttentionLayerInfo,
        window: int | None,
        kind: MaskKind,
    ) -> Tensor:
        """[B * Q, N, D] for the group's rows of q."""
        batch, q_len, kv_len = len(group.spans), group.q_len, group.kv_len
        num_kv = layer.num_kv_heads
        k_BKLD = self._keys.gather(k_plane, group.slots).view(batch, kv_len, num_kv, -1).transpose(1, 2)
        v_BKLD = self._values.gather(v_plane, group.slots).view(batch, kv_len, num_kv, -1).transpose(1, 2)
        if k_BKLD.dtype != q_RND.dtype:
            k_BKLD, v_BKLD = k_BKLD.to(q_RND.dtype), v_BKLD.to(q_RND.dtype)
        if self.env.deterministic:
            return self._one_by_one(q_RND, k_BKLD, v_BKLD, layer, window, kind)
        if q_len == 1:
            # The query heads of a key-value head take the place of queries: keys are read once for all.
            q_BKGD = q_RND.reshape(batch, num_kv, -1, layer.head_dim)
            out = self._attend(q_BKGD, k_BKLD, v_BKLD, attn_mask=group.mask, scale=layer.scale)
            return out.reshape(batch, layer.num_q_heads, layer.v_head_dim)
        q_BNQD = q_RND.view(batch, q_len, layer.num_q_heads, layer.head_dim).transpose(1, 2)
        is_grouped = layer.num_q_heads != num_kv
        if batch > 1 or kind is MaskKind.FULL:
            out = self._attend(q_BNQD, k_BKLD, v_BKLD, attn_mask=group.mask, scale=layer.scale, enable_gqa=is_grouped)
            return out.transpose(1, 2).reshape(-1, layer.num_q_heads, layer.v_head_dim)
        return self._in_blocks(q_BNQD, k_BKLD, v_BKLD, layer, window)

    def _in_blocks(
        self, q_1NQD: Tensor, k_1KLD: Tensor, v_1KLD: Tensor, layer: AttentionLayerInfo, window: int | None
    ) -> Tensor:
        """One request, block by block of its queries, each over the keys that it sees."""
        q_len, kv_len = q_1NQD.shape[2], k_1KLD.shape[2]
        is_grouped = layer.num_q_heads != layer.num_kv_heads
        blocks: list[Tensor] = []
        for start in range(0, q_len, QUERY_BLOCK):
            end = min(start + QUERY_BLOCK, q_len)
            last_key = kv_len - q_len + end
            first_key = 0 if window is None else max(0, last_key - (end - start) - window + 1)
            out = self._attend(
                q_1NQD[:, :, start:end],
                k_1KLD[:, :, first_key:last_key],
                v_1KLD[:, :, first_key:last_key],
                attn_mask=self._masks.block(end - start, last_key - first_key, window),
                scale=layer.scale,
                enable_gqa=is_grouped,
            )
            blocks.append(out[0].transpose(0, 1))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    def _one_by_one(
        self,
        q_QND: Tensor,
        k_1KLD: Tensor,
        v_1KLD: Tensor,
        layer: AttentionLayerInfo,
        window: int | None,
        kind: MaskKind,
    ) -> Tensor:
        """One request, each query alone over exactly the keys that it sees."""
        q_len, kv_len = q_QND.shape[0], k_1KLD.shape[2]
        out_QND = q_QND.new_empty(q_len, layer.num_q_heads, layer.v_head_dim)
        for index in range(q_len):
            last_key = kv_len if kind is MaskKind.FULL else kv_len - q_len + index + 1
            first_key = 0 if window is None else max(0, last_key - window)
            # Fresh copies: the product must not depend on where the keys start in memory.
            out = self._attend(
                q_QND[index].reshape(1, layer.num_kv_heads, -1, layer.head_dim),
                k_1KLD[:, :, first_key:last_key].clone(memory_format=torch.contiguous_format),
                v_1KLD[:, :, first_key:last_key].clone(memory_format=torch.contiguous_format),
                scale=layer.scale,
            )
            out_QND[index] = out.view(layer.num_q_heads, layer.v_head_dim)
        return out_QND
