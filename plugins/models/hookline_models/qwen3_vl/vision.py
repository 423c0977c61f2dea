"""The vision tower of Qwen3-VL: from patches of pixels to embedding rows.

Items of all requests go through it side by side; attention stays within a frame (a pair of frames of a clip).

Shape letters: T patches of all items, H the tower's hidden size, N heads, D head dimension, R rows that come out
(T / 4), O the language model's hidden size, E elements of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hookline.errors import ModelError
from hookline.interfaces.multimodal import IMAGE, EncoderItem
from hookline.layers.activation import activation
from hookline.layers.ops import LINEAR, ROTARY
from hookline_models.qwen3_vl.grids import GridPositions

if TYPE_CHECKING:
    from hookline.interfaces.multimodal import EncoderInput
    from hookline.layers.build import BuildContext
    from hookline.layers.packed_attention import PackedAttention, PackedPlan
    from hookline_models.qwen3_vl.config import VisionConfig
    from hookline_models.qwen3_vl.settings import PatchSettings

_EPS = 1e-6


class PatchEmbedding:
    """Pixels to hidden states: the convolution of the checkpoint, whose windows do not overlap, as a product."""

    def __init__(self, vision: VisionConfig, ctx: BuildContext, path: str, pixels: PatchSettings) -> None:
        self._vision = vision
        window = (vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
        self._weight = ctx.parameter(f"{path}.proj.weight", vision.hidden_size, *window)
        self._bias = ctx.parameter(f"{path}.proj.bias", vision.hidden_size)
        self._linear = ctx.ops.request(LINEAR)
        self._dtype = ctx.dtype
        self._scale = pixels.rescale_factor
        shape = (1, vision.in_channels, 1)
        self._mean = torch.tensor(pixels.mean, device=ctx.device).view(shape)
        self._std = torch.tensor(pixels.std, device=ctx.device).view(shape)

    def forward(self, patches: Tensor) -> Tensor:
        """[T, H] of uint8 pixels [T, channels * frames * size * size]; with one frame, it is taken for all."""
        vision = self._vision
        count, area = patches.shape[0], vision.patch_size**2
        x = patches.view(count, vision.in_channels, -1).float()
        x = (x * self._scale - self._mean) / self._std
        if x.shape[-1] == area:
            x = x.view(count, vision.in_channels, 1, area).expand(-1, -1, vision.temporal_patch_size, -1)
        flat = x.reshape(count, -1).to(self._dtype)
        return self._linear(flat, self._weight.view(vision.hidden_size, -1), self._bias)


class VisionBlock:
    """Norm, attention, norm, MLP, each added to the residual stream."""

    def __init__(self, vision: VisionConfig, ctx: BuildContext, path: str, attention: PackedAttention) -> None:
        width, inner = vision.hidden_size, vision.intermediate_size
        self._num_heads = vision.num_heads
        self._norm1 = ctx.layer_norm(f"{path}.norm1", width, _EPS)
        self._qkv = ctx.linear(f"{path}.attn.qkv", width, 3 * width, bias=True, adaptable=False)
        self._rotate = ctx.ops.request(ROTARY)
        self._attention = attention
        self._proj = ctx.linear(f"{path}.attn.proj", width, width, bias=True, adaptable=False)
        self._norm2 = ctx.layer_norm(f"{path}.norm2", width, _EPS)
        self._fc1 = ctx.linear(f"{path}.mlp.linear_fc1", width, inner, bias=True, adaptable=False)
        self._activate = activation(vision.hidden_act)
        self._fc2 = ctx.linear(f"{path}.mlp.linear_fc2", inner, width, bias=True, adaptable=False)

    def forward(self, x_TH: Tensor, cos_T1D: Tensor, sin_T1D: Tensor, plan: PackedPlan) -> Tensor:
        """[T, H]; cos and sin are float32."""
        heads = self._num_heads
        qkv_TND = self._qkv.forward(self._norm1.forward(x_TH), None).view(len(x_TH), 3 * heads, -1)
        qk_TND = self._rotate(qkv_TND[:, : 2 * heads].float(), cos_T1D, sin_T1D).to(x_TH.dtype)
        mixed = self._attention.forward(qk_TND[:, :heads], qk_TND[:, heads:], qkv_TND[:, 2 * heads :], plan)
        x_TH = x_TH + self._proj.forward(mixed, None)
        hidden = self._activate(self._fc1.forward(self._norm2.forward(x_TH), None))
        return x_TH + self._fc2.forward(hidden, None)


class PatchMerger:
    """Squares of neighbouring patches to one row of the language model's width."""

    def __init__(self, vision: VisionConfig, ctx: BuildContext, path: str, *, norm_after_merge: bool) -> None:
        self._width = vision.hidden_size * vision.merge_size**2
        self._norm_after_merge = norm_after_merge
        norm_width = self._width if norm_after_merge else vision.hidden_size
        self._norm = ctx.layer_norm(f"{path}.norm", norm_width, _EPS)
        self._fc1 = ctx.linear(f"{path}.linear_fc1", self._width, self._width, bias=True, adaptable=False)
        self._fc2 = ctx.linear(f"{path}.linear_fc2", self._width, vision.out_hidden_size, bias=True, adaptable=False)

    def forward(self, x_TH: Tensor) -> Tensor:
        """[R, O]; patches of a square lie one after the other."""
        if self._norm_after_merge:
            merged = self._norm.forward(x_TH.view(-1, self._width))
        else:
            merged = self._norm.forward(x_TH).view(-1, self._width)
        return self._fc2.forward(F.gelu(self._fc1.forward(merged, None)), None)


class VisionTower:
    """The whole tower."""

    def __init__(self, vision: VisionConfig, ctx: BuildContext, path: str, pixels: PatchSettings) -> None:
        self._vision = vision
        self._embed = PatchEmbedding(vision, ctx, f"{path}.patch_embed", pixels)
        table = ctx.parameter(f"{path}.pos_embed.weight", vision.grid_side**2, vision.hidden_size)
        self._positions = GridPositions(vision, table)
        self._attention = ctx.packed_attention(num_heads=vision.num_heads, head_dim=vision.head_dim)
        self._blocks = [
            VisionBlock(vision, ctx, f"{path}.blocks.{index}", self._attention) for index in range(vision.depth)
        ]
        self._merger = PatchMerger(vision, ctx, f"{path}.merger", norm_after_merge=False)
        self._taps = {
            block: PatchMerger(vision, ctx, f"{path}.deepstack_merger_list.{index}", norm_after_merge=True)
            for index, block in enumerate(vision.deepstack_blocks)
        }

    @property
    def row_size(self) -> int:
        """E."""
        return self._vision.row_size

    def encode(self, items: Sequence[EncoderInput]) -> list[Tensor]:
        """[R, E] of each item: its rows, and beside each its deepstack parts."""
        for item in items:
            self._check(item)
        grids = [(item.grid[0], item.grid[1], item.grid[2]) for item in items]
        # Pictures have one frame in a patch and clips two, so each is embedded by itself.
        x_TH = torch.cat([self._embed.forward(item.tensors["patches"]) for item in items])
        rows_RE = self._forward(x_TH, grids)
        return list(torch.split(rows_RE, [item.num_rows for item in items]))

    def example_item(self, cost: int) -> EncoderItem:
        """A black square of at most ``cost`` patches."""
        merge = self._vision.merge_size
        side = max(merge, math.isqrt(cost) // merge * merge)
        pixels = np.zeros((side * side, self._vision.in_channels * self._vision.patch_size**2), dtype=np.uint8)
        return EncoderItem(
            kind=IMAGE,
            digest=bytes(32),
            tensors={"patches": pixels},
            grid=(1, side, side),
            num_rows=(side // merge) ** 2,
            cost=side * side,
        )

    def _forward(self, x_TH: Tensor, grids: Sequence[tuple[int, int, int]]) -> Tensor:
        positions_TH, cos_T1D, sin_T1D = self._positions.of(grids)
        x_TH = x_TH + positions_TH.to(x_TH.dtype)
        plan = self._attention.plan([rows * cols for frames, rows, cols in grids for _ in range(frames)])
        parts = []
        for index, block in enumerate(self._blocks):
            x_TH = block.forward(x_TH, cos_T1D, sin_T1D, plan)
            if index in self._taps:
                parts.append(self._taps[index].forward(x_TH))
        return torch.cat([self._merger.forward(x_TH), *parts], dim=-1)

    def _check(self, item: EncoderInput) -> None:
        """Raises ``ModelError`` for an item that would be read past its end."""
        side = self._vision.merge_size
        patches = item.tensors.get("patches")
        if patches is None or len(item.grid) != 3:
            raise ModelError(f"an item for Qwen3-VL has 'patches' and a grid of three, not {list(item.tensors)}")
        frames, rows, cols = item.grid
        if rows % side or cols % side or patches.shape[0] != frames * rows * cols:
            raise ModelError(f"{patches.shape[0]} patches do not make a grid of {frames} x {rows} x {cols}")
        if item.num_rows * side**2 != patches.shape[0]:
            raise ModelError(f"{patches.shape[0]} patches give {patches.shape[0] // side**2} rows, not {item.num_rows}")
