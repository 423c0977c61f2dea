"""TritonAttention: the backend over the kernels of this package.

A pass of single tokens runs the decode kernel over items of work that the device cuts from the lengths it knows, so
a graph can capture it and replay it with any lengths. Passes with plain masks run the prefill kernel, which reads
new keys in place; windows and trees run the extend kernel, which knows every mask.

With ``deterministic`` all passes run the extend kernel with one shape of tile. A row is then the same sum in the
same order alone, in any batch, and however its prompt was chunked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from hookline.batch.forward_batch import AttentionGeometry, MaskKind
from hookline.interfaces.attention import AttentionBackend, AttentionEnv, AttentionLayerInfo
from hookline_attention.triton_attention.decode_kernels import decode_kernel, items_kernel, merge_kernel
from hookline_attention.triton_attention.kernels import extend_kernel
from hookline_attention.triton_attention.prefill_kernels import prefill_kernel
from hookline_attention.triton_attention.tiles import (
    ITEM_UNIT,
    Tile,
    decode_tile,
    extend_tile,
    num_items,
    prefill_tile,
)

if TYPE_CHECKING:
    from hookline.interfaces.attention import KVPool

#: Multiprocessors to assume where there are none (the interpreter).
_NO_SMS = 4
#: Items that one program of the cut writes.
_ITEMS_TILE = 64
#: Parts that a merge reads at once.
_MERGED = 8


@dataclass(slots=True, kw_only=True)
class _Items:
    """The work of a decode; filled on the device by ``prepare``."""

    #: Items are cut so that there are about as many.
    target: int
    #: [W] request of each item, or -1.
    request: Tensor
    #: [B] first item of each request, and how many it has.
    begin: Tensor
    count: Tensor
    #: [1] keys of an item.
    length: Tensor
    #: Parts of requests that have several items, [W, N, Dv] float32 and [W, N]; shared by all layers of the pass.
    parts: Tensor | None = None
    lse: Tensor | None = None


@dataclass(slots=True, kw_only=True)
class _Plan:
    """One pass."""

    geometry: AttentionGeometry
    longest_new: int
    #: Set for decodes.
    items: _Items | None = None
    #: [B] int64, the row of the pass where each request begins; made by ``prepare`` for everything else.
    starts: Tensor | None = None


class TritonAttention(AttentionBackend):
    """See the module's docstring."""

    def __init__(self, env: AttentionEnv) -> None:
        super().__init__(env)
        self._group = env.num_q_heads // env.num_kv_heads
        self._num_sms = _multiprocessors(env.device)
        #: Kernels of a decode start while the one before them ends (programmatic dependent launch).
        self._pdl = env.device.type == "cuda" and torch.cuda.get_device_capability(env.device) >= (9, 0)
        self._launch: dict[str, bool] = {"launch_pdl": True} if self._pdl else {}
        #: "ieee": float32 products are exact, not in the tensor cores' short format.
        self._precision = "ieee" if env.dtype is torch.float32 else "tf32"

    def plan(self, geometry: AttentionGeometry) -> _Plan:
        longest_new = max(geometry.extend_lens_cpu, default=0)
        plan = _Plan(geometry=geometry, longest_new=longest_new)
        if longest_new == 1 and not self.env.deterministic and geometry.mask is not MaskKind.TREE:
            plan.items = self._items(geometry.batch_size)
        return plan

    def _items(self, batch_size: int) -> _Items:
        target = num_items(batch_size, self.env.num_kv_heads, self._num_sms)
        sizes = (batch_size + target, batch_size, batch_size, 1)
        request, begin, count, length = (torch.empty(size, dtype=torch.int32, device=self.env.device) for size in sizes)
        return _Items(target=target, request=request, begin=begin, count=count, length=length)

    def prepare(self, plan: _Plan, geometry: AttentionGeometry) -> None:
        items = plan.items
        if items is None:
            lens_B = geometry.seq_lens - geometry.prefix_lens
            plan.starts = lens_B.cumsum(0) - lens_B
            return
        items_kernel[(triton.cdiv(len(items.request), _ITEMS_TILE),)](
            geometry.seq_lens, items.request, items.begin, items.count, items.length,
            geometry.batch_size, len(items.request), items.target,
            UNIT=ITEM_UNIT, BLOCK_B=triton.next_power_of_2(geometry.batch_size), BLOCK_W=_ITEMS_TILE, num_warps=4,
        )  # fmt: skip

    def forward(
        self,
        q_THD: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        layer: AttentionLayerInfo,
        kv: KVPool,
        plan: _Plan,
    ) -> Tensor:
        if q_THD.stride(-1) != 1:
            q_THD = q_THD.contiguous()
        out = q_THD.new_empty(q_THD.shape[0], layer.num_q_heads, layer.v_head_dim)
        if plan.longest_new == 0:
            return out
        planes = kv.planes(layer.layer_id)
        window = plan.geometry.window if layer.window is None else layer.window
        if plan.items is not None:
            self._decode(q_THD, planes, out, layer, window or 0, plan.geometry, plan.items)
        elif window or self.env.deterministic or plan.geometry.mask is MaskKind.TREE:
            self._extend(q_THD, planes, out, layer, window or 0, plan)
        else:
            self._prefill(q_THD, k_TKD, v_TKD, planes, out, layer, plan)
        return out

    def _decode(
        self,
        q: Tensor,
        planes: tuple[Tensor, Tensor],
        out: Tensor,
        layer: AttentionLayerInfo,
        window: int,
        geometry: AttentionGeometry,
        items: _Items,
    ) -> None:
        tile = decode_tile(self._group, layer.head_dim, q.dtype)
        k_plane, v_plane = planes
        parts, lse = self._parts(items, layer)
        decode_kernel[(layer.num_kv_heads, len(items.request))](
            q, k_plane, v_plane, geometry.req_to_token, geometry.req_pool_indices, geometry.seq_lens,
            items.request, items.begin, items.count, items.length,
            q if layer.sinks is None else layer.sinks, out, parts, lse,
            layer.scale, layer.softcap or 0.0,
            q.stride(0), q.stride(1), k_plane.stride(0), k_plane.stride(1), v_plane.stride(0), v_plane.stride(1),
            geometry.req_to_token.stride(0), out.stride(0), out.stride(1),
            WINDOW=window, HAS_SOFTCAP=layer.softcap is not None, HAS_SINKS=layer.sinks is not None,
            G=self._group, D=layer.head_dim, DV=layer.v_head_dim,
            BLOCK_G=tile.rows, BLOCK_L=tile.keys,
            BLOCK_D=_width(layer.head_dim), BLOCK_DV=_width(layer.v_head_dim),
            PRECISION=self._precision, PDL=self._pdl,
            num_warps=tile.num_warps, num_stages=tile.num_stages, **self._launch,
        )  # fmt: skip
        merge_kernel[(geometry.batch_size, layer.num_q_heads)](
            parts, lse, items.begin, items.count, out, out.stride(0), out.stride(1),
            DV=layer.v_head_dim, BLOCK_DV=_width(layer.v_head_dim), BLOCK_S=_MERGED, PDL=self._pdl,
            num_warps=1, **self._launch,
        )  # fmt: skip

    def _parts(self, items: _Items, layer: AttentionLayerInfo) -> tuple[Tensor, Tensor]:
        shape = (len(items.request), layer.num_q_heads)
        if items.parts is None or items.lse is None or items.parts.shape != (*shape, layer.v_head_dim):
            items.parts = torch.empty(*shape, layer.v_head_dim, dtype=torch.float32, device=self.env.device)
            items.lse = torch.empty(shape, dtype=torch.float32, device=self.env.device)
        return items.parts, items.lse

    def _prefill(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        planes: tuple[Tensor, Tensor],
        out: Tensor,
        layer: AttentionLayerInfo,
        plan: _Plan,
    ) -> None:
        geometry = plan.geometry
        k_plane, v_plane = planes
        k, v = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (k, v))
        tile = prefill_tile(self._group, layer.head_dim, q.dtype, plan.longest_new)
        tiles = triton.cdiv(plan.longest_new * self._group, tile.rows)
        prefill_kernel[(tiles, layer.num_kv_heads, geometry.batch_size)](
            q, k, v, k_plane, v_plane, geometry.req_to_token, geometry.req_pool_indices, geometry.seq_lens,
            geometry.prefix_lens, plan.starts, q if layer.sinks is None else layer.sinks, out,
            layer.scale, layer.softcap or 0.0,
            q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(0), v.stride(1),
            k_plane.stride(0), k_plane.stride(1), v_plane.stride(0), v_plane.stride(1),
            geometry.req_to_token.stride(0), out.stride(0), out.stride(1),
            HAS_SOFTCAP=layer.softcap is not None, HAS_SINKS=layer.sinks is not None,
            IS_CAUSAL=geometry.mask is not MaskKind.FULL,
            G=self._group, D=layer.head_dim, DV=layer.v_head_dim,
            BLOCK_M=tile.rows, BLOCK_L=tile.keys,
            BLOCK_D=_width(layer.head_dim), BLOCK_DV=_width(layer.v_head_dim),
            PRECISION=self._precision, num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip

    def _extend(
        self,
        q: Tensor,
        planes: tuple[Tensor, Tensor],
        out: Tensor,
        layer: AttentionLayerInfo,
        window: int,
        plan: _Plan,
    ) -> None:
        geometry = plan.geometry
        k_plane, v_plane = planes
        tile = self._extend_tile(layer, q.dtype, plan.longest_new)
        tree = geometry.tree_mask if geometry.mask is MaskKind.TREE else None
        tiles = triton.cdiv(plan.longest_new * self._group, tile.rows)
        extend_kernel[(tiles, layer.num_kv_heads, geometry.batch_size)](
            q, k_plane, v_plane, geometry.req_to_token, geometry.req_pool_indices, geometry.seq_lens,
            geometry.prefix_lens, plan.starts, q if tree is None else tree.view(torch.uint8),
            q if layer.sinks is None else layer.sinks, out,
            layer.scale, layer.softcap or 0.0,
            q.stride(0), q.stride(1), k_plane.stride(0), k_plane.stride(1), v_plane.stride(0), v_plane.stride(1),
            geometry.req_to_token.stride(0), 0 if tree is None else tree.stride(0), out.stride(0), out.stride(1),
            WINDOW=window, HAS_SOFTCAP=layer.softcap is not None, HAS_SINKS=layer.sinks is not None,
            IS_CAUSAL=geometry.mask is not MaskKind.FULL, HAS_TREE=tree is not None,
            G=self._group, D=layer.head_dim, DV=layer.v_head_dim,
            BLOCK_M=tile.rows, BLOCK_L=tile.keys,
            BLOCK_D=_width(layer.head_dim), BLOCK_DV=_width(layer.v_head_dim),
            PRECISION=self._precision, num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip

    def _extend_tile(self, layer: AttentionLayerInfo, dtype: torch.dtype, longest: int) -> Tile:
        if self.env.deterministic:
            # One tile for every length: a row's sums must not depend on its neighbours.
            longest = self.env.max_context_len
        return extend_tile(self._group, layer.head_dim, dtype, longest)


def _width(extent: int) -> int:
    """Columns of a tile that hold ``extent`` values."""
    return max(16, int(triton.next_power_of_2(extent)))


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return _NO_SMS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
