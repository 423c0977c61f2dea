"""TritonAttention: the backend over the kernels of this package.

A pass of single tokens runs the decode kernel, cut over keys as far as it takes to fill the device; every other
pass runs the extend kernel. Planning reads the host's lengths only. The device half of it is three small
tensors, so a graph can capture a decode: the number of splits then depends on the batch size and on the longest
context that the engine allows, and each request is cut by the length that the device knows.

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
from hookline_attention.triton_attention.kernels import decode_kernel, extend_kernel, merge_kernel
from hookline_attention.triton_attention.tiles import (
    MIN_SPLIT,
    Tile,
    decode_tile,
    extend_tile,
    num_splits,
)

if TYPE_CHECKING:
    from hookline.interfaces.attention import KVPool

#: Multiprocessors to assume where there are none (the interpreter).
_NO_SMS = 4


@dataclass(slots=True, kw_only=True)
class _Plan:
    """One pass."""

    geometry: AttentionGeometry
    is_decode: bool
    longest_new: int
    splits: int
    #: [B] int64, the row of the pass where each request begins; made by ``prepare``.
    starts: Tensor | None = None
    #: Parts of a split decode, [B, N, S, Dv] float32 and [B, N, S]; shared by all layers of the pass.
    parts: Tensor | None = None
    lse: Tensor | None = None


class TritonAttention(AttentionBackend):
    """See the module's docstring."""

    def __init__(self, env: AttentionEnv) -> None:
        super().__init__(env)
        self._group = env.num_q_heads // env.num_kv_heads
        self._num_sms = _multiprocessors(env.device)
        #: "ieee": float32 products are exact, not in the tensor cores' short format.
        self._precision = "ieee" if env.dtype is torch.float32 else "tf32"

    def plan(self, geometry: AttentionGeometry) -> _Plan:
        longest_new = max(geometry.extend_lens_cpu, default=0)
        is_decode = longest_new == 1 and not self.env.deterministic and geometry.mask is not MaskKind.TREE
        splits = 1
        if is_decode:
            longest = max(geometry.seq_lens_cpu)
            splits = num_splits(geometry.batch_size, self.env.num_kv_heads, longest, self._num_sms)
        return _Plan(geometry=geometry, is_decode=is_decode, longest_new=longest_new, splits=splits)

    def prepare(self, plan: _Plan, geometry: AttentionGeometry) -> None:
        if not plan.is_decode:
            lens_B = geometry.seq_lens - geometry.prefix_lens
            plan.starts = lens_B.cumsum(0) - lens_B

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
        k_plane, v_plane = kv.planes(layer.layer_id)
        window = plan.geometry.window if layer.window is None else layer.window
        if plan.is_decode:
            self._decode(q_THD, k_plane, v_plane, out, layer, window or 0, plan)
        else:
            self._extend(q_THD, k_plane, v_plane, out, layer, window or 0, plan)
        return out

    def _decode(
        self,
        q: Tensor,
        k_plane: Tensor,
        v_plane: Tensor,
        out: Tensor,
        layer: AttentionLayerInfo,
        window: int,
        plan: _Plan,
    ) -> None:
        geometry, splits = plan.geometry, plan.splits
        batch_size = geometry.batch_size
        tile = decode_tile(self._group, layer.head_dim, q.dtype)
        parts, lse = self._parts(plan, layer) if splits > 1 else (out, out)
        decode_kernel[(batch_size, layer.num_kv_heads, splits)](
            q, k_plane, v_plane, geometry.req_to_token, geometry.req_pool_indices, geometry.seq_lens,
            q if layer.sinks is None else layer.sinks, out, parts, lse,
            layer.scale, layer.softcap or 0.0,
            q.stride(0), q.stride(1), k_plane.stride(0), k_plane.stride(1), v_plane.stride(0), v_plane.stride(1),
            geometry.req_to_token.stride(0), out.stride(0), out.stride(1),
            splits, MIN_SPLIT if splits > 1 else 0,
            WINDOW=window, HAS_SOFTCAP=layer.softcap is not None, HAS_SINKS=layer.sinks is not None,
            G=self._group, D=layer.head_dim, DV=layer.v_head_dim,
            BLOCK_G=tile.rows, BLOCK_L=tile.keys,
            BLOCK_D=_width(layer.head_dim), BLOCK_DV=_width(layer.v_head_dim),
            IS_SPLIT=splits > 1, PRECISION=self._precision,
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip
        if splits > 1:
            merge_kernel[(batch_size, layer.num_q_heads)](
                parts, lse, out, out.stride(0), out.stride(1), splits,
                DV=layer.v_head_dim, BLOCK_DV=_width(layer.v_head_dim), BLOCK_S=triton.next_power_of_2(splits),
                num_warps=4,
            )  # fmt: skip

    def _parts(self, plan: _Plan, layer: AttentionLayerInfo) -> tuple[Tensor, Tensor]:
        shape = (plan.geometry.batch_size, layer.num_q_heads, plan.splits)
        if plan.parts is None or plan.lse is None or plan.parts.shape != (*shape, layer.v_head_dim):
            plan.parts = torch.empty(*shape, layer.v_head_dim, dtype=torch.float32, device=self.env.device)
            plan.lse = torch.empty(shape, dtype=torch.float32, device=self.env.device)
        return plan.parts, plan.lse

    def _extend(
        self,
        q: Tensor,
        k_plane: Tensor,
        v_plane: Tensor,
        out: Tensor,
        layer: AttentionLayerInfo,
        window: int,
        plan: _Plan,
    ) -> None:
        geometry = plan.geometry
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
