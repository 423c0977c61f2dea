"""The tower of LLaVA and its projector: from pixels to embedding rows.

Shape letters: B pictures, S states of a picture, T = B * S, H the tower's hidden size, N heads, D head dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hookline.layers.activation import activation
from hookline.layers.ops import LINEAR

if TYPE_CHECKING:
    from hookline.layers.build import BuildContext
    from hookline.layers.packed_attention import PackedAttention, PackedPlan
    from hookline_models.llava.config import LlavaConfig
    from hookline_models.llava.pixels import PixelSettings


class PatchEmbeddings:
    """Pixels to states: patches, the class token before them, learned positions."""

    def __init__(self, config: LlavaConfig, ctx: BuildContext, path: str, pixels: PixelSettings) -> None:
        self._config = config
        window = (3, config.patch_size, config.patch_size)
        self._weight = ctx.parameter(f"{path}.patch_embedding.weight", config.hidden_size, *window)
        self._bias: Tensor | None = None
        self._class_token: Tensor | None = None
        if config.has_class_token:
            self._class_token = ctx.parameter(f"{path}.class_embedding", config.hidden_size)
        else:
            self._bias = ctx.parameter(f"{path}.patch_embedding.bias", config.hidden_size)
        self._positions = ctx.parameter(f"{path}.position_embedding.weight", config.num_states, config.hidden_size)
        self._linear = ctx.ops.request(LINEAR)
        self._dtype = ctx.dtype
        self._scale = pixels.rescale_factor
        self._mean = torch.tensor(pixels.mean, device=ctx.device).view(1, 3, 1, 1)
        self._std = torch.tensor(pixels.std, device=ctx.device).view(1, 3, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, S, H] of uint8 [B, 3, side, side]."""
        count, side, size = pixels.shape[0], self._config.grid_side, self._config.patch_size
        edge = side * size
        x = (pixels[:, :, :edge, :edge].float() * self._scale - self._mean) / self._std
        x = x.reshape(count, 3, side, size, side, size).permute(0, 2, 4, 1, 3, 5).reshape(count * side * side, -1)
        weight = self._weight.view(self._config.hidden_size, -1)
        states = self._linear(x.to(self._dtype), weight, self._bias).view(count, side * side, -1)
        if self._class_token is not None:
            states = torch.cat([self._class_token.expand(count, 1, -1), states], dim=1)
        return states + self._positions


class TowerLayer:
    """Norm, attention, norm, MLP, each added to the residual stream."""

    def __init__(self, config: LlavaConfig, ctx: BuildContext, path: str, attention: PackedAttention) -> None:
        width, heads, inner = config.hidden_size, config.num_heads, config.intermediate_size
        self._num_heads = heads
        self._norm1 = ctx.layer_norm(f"{path}.layer_norm1", width, config.eps)
        self._qkv = ctx.qkv_linear(
            f"{path}.self_attn.qkv_proj",
            width,
            num_q_heads=heads,
            num_kv_heads=heads,
            head_dim=width // heads,
            bias=True,
            adaptable=False,
        )
        self._attention = attention
        self._out = ctx.linear(f"{path}.self_attn.out_proj", width, width, bias=True, adaptable=False)
        self._norm2 = ctx.layer_norm(f"{path}.layer_norm2", width, config.eps)
        self._fc1 = ctx.linear(f"{path}.mlp.fc1", width, inner, bias=True, adaptable=False)
        self._activate = activation(config.hidden_act)
        self._fc2 = ctx.linear(f"{path}.mlp.fc2", inner, width, bias=True, adaptable=False)

    def forward(self, x_TH: Tensor, plan: PackedPlan) -> Tensor:
        """[T, H]."""
        heads = self._num_heads
        qkv_TND = self._qkv.forward(self._norm1.forward(x_TH), None).view(len(x_TH), 3 * heads, -1)
        q, k, v = qkv_TND[:, :heads], qkv_TND[:, heads : 2 * heads], qkv_TND[:, 2 * heads :]
        x_TH = x_TH + self._out.forward(self._attention.forward(q, k, v, plan), None)
        return x_TH + self._fc2.forward(self._activate(self._fc1.forward(self._norm2.forward(x_TH), None)), None)


class LlavaTower:
    """The tower as far as its states are used, and the projector."""

    def __init__(self, config: LlavaConfig, ctx: BuildContext, out_size: int, pixels: PixelSettings) -> None:
        """``out_size`` is the language model's hidden size."""
        self._config = config
        self._embed = PatchEmbeddings(config, ctx, "vision_tower.embeddings", pixels)
        self._pre_norm = None
        if config.has_class_token:
            # So the checkpoints spell it.
            self._pre_norm = ctx.layer_norm("vision_tower.pre_layrnorm", config.hidden_size, config.eps)
        head_dim = config.hidden_size // config.num_heads
        self._attention = ctx.packed_attention(num_heads=config.num_heads, head_dim=head_dim)
        self._layers = [
            TowerLayer(config, ctx, f"vision_tower.encoder.layers.{index}", self._attention)
            for index in range(max(config.feature_layers))
        ]
        width = config.hidden_size * len(config.feature_layers)
        bias, path = config.projector_bias, "multi_modal_projector"
        self._linear1 = ctx.linear(f"{path}.linear_1", width, out_size, bias=bias, adaptable=False)
        self._activate = activation(config.projector_act)
        self._linear2 = ctx.linear(f"{path}.linear_2", out_size, out_size, bias=bias, adaptable=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, rows, out_size] of uint8 [B, 3, side, side]."""
        states = self._embed.forward(pixels)
        count, length, width = states.shape
        x_TH = states.reshape(count * length, width)
        if self._pre_norm is not None:
            x_TH = self._pre_norm.forward(x_TH)
        plan = self._attention.plan([length] * count)
        found = {0: x_TH}
        for number, layer in enumerate(self._layers, start=1):
            x_TH = found[number] = layer.forward(x_TH, plan)
        chosen = torch.cat([found[number] for number in self._config.feature_layers], dim=-1)
        chosen = chosen.view(count, length, -1)[:, int(self._config.drops_first) :]
        flat = chosen.reshape(count * chosen.shape[1], -1)
        rows = self._linear2.forward(self._activate(self._linear1.forward(flat, None)), None)
        return rows.view(count, chosen.shape[1], -1)
