"""The SigLIP tower, and the aligner that makes embedding rows of its states.

Shape letters: B pictures, S patches of each, T = B * S, H the tower's hidden size, N heads, D head dimension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from hookline.layers.activation import activation
from hookline.layers.ops import LINEAR

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.config.model_config import ModelConfig
    from hookline.layers.build import BuildContext
    from hookline.layers.packed_attention import PackedAttention, PackedPlan

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class TowerLayer:
    """Norm, attention, norm, MLP, each added to the residual stream. Adapters do not find the linear layers."""

    def __init__(self, vision: Mapping[str, Any], ctx: BuildContext, path: str, attention: PackedAttention) -> None:
        width, heads, inner = vision["hidden_size"], vision["num_attention_heads"], vision["intermediate_size"]
        eps = vision.get("layer_norm_eps", 1e-6)
        self.heads = heads
        self.norm1 = ctx.layer_norm(f"{path}.layer_norm1", width, eps)
        self.qkv = ctx.qkv_linear(
            f"{path}.self_attn.qkv_proj",
            width,
            num_q_heads=heads,
            num_kv_heads=heads,
            head_dim=width // heads,
            bias=True,
            adaptable=False,
        )
        self.attention = attention
        self.out = ctx.linear(f"{path}.self_attn.out_proj", width, width, bias=True, adaptable=False)
        self.norm2 = ctx.layer_norm(f"{path}.layer_norm2", width, eps)
        self.fc1 = ctx.linear(f"{path}.mlp.fc1", width, inner, bias=True, adaptable=False)
        self.activate = activation(vision.get("hidden_act", "gelu_pytorch_tanh"))
        self.fc2 = ctx.linear(f"{path}.mlp.fc2", inner, width, bias=True, adaptable=False)

    def forward(self, x_TH: Tensor, plan: PackedPlan) -> Tensor:
        n = self.heads
        qkv_TND = self.qkv.forward(self.norm1.forward(x_TH), None).view(len(x_TH), 3 * n, -1)
        mixed = self.attention.forward(qkv_TND[:, :n], qkv_TND[:, n : 2 * n], qkv_TND[:, 2 * n :], plan)
        x_TH = x_TH + self.out.forward(mixed, None)
        return x_TH + self.fc2.forward(self.activate(self.fc1.forward(self.norm2.forward(x_TH), None)), None)


class Tower:
    """Patches, layers, norm, aligner."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        vision = config.raw["vision_config"]
        self.side: int = vision["image_size"]
        self.patch: int = vision["patch_size"]
        self.dtype = ctx.dtype
        width, count = vision["hidden_size"], (self.side // self.patch) ** 2
        path = "vision_model.embeddings"
        self.weight = ctx.parameter(f"{path}.patch_embedding.weight", width, 3, self.patch, self.patch)
        self.bias = ctx.parameter(f"{path}.patch_embedding.bias", width)
        self.positions = ctx.parameter(f"{path}.position_embedding.weight", count, width)
        self.linear = ctx.ops.request(LINEAR)
        head_dim = width // vision["num_attention_heads"]
        # One for all layers: the segments of a pass are planned once.
        self.attention = ctx.packed_attention(num_heads=vision["num_attention_heads"], head_dim=head_dim)
        self.layers = [
            TowerLayer(vision, ctx, f"vision_model.encoder.layers.{index}", self.attention)
            for index in range(vision["num_hidden_layers"])
        ]
        self.norm = ctx.layer_norm("vision_model.post_layernorm", width, vision.get("layer_norm_eps", 1e-6))
        self.linear1 = ctx.linear("aligner.linear1", width, config.hidden_size, bias=True, adaptable=False)
        self.linear2 = ctx.linear("aligner.linear2", config.hidden_size, config.hidden_size, bias=True, adaptable=False)
        file = config.path / "preprocessor_config.json"
        values: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        shape = (1, 3, 1, 1)
        self.mean = torch.tensor(values.get("image_mean") or CLIP_MEAN, device=ctx.device).view(shape)
        self.std = torch.tensor(values.get("image_std") or CLIP_STD, device=ctx.device).view(shape)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, S, language model's hidden size] of uint8 [B, 3, side, side]."""
        count, grid, size = len(pixels), self.side // self.patch, self.patch
        x = (pixels.float() / 255 - self.mean) / self.std
        # A convolution whose windows do not overlap is a product over patches.
        patches = x.view(count, 3, grid, size, grid, size).permute(0, 2, 4, 1, 3, 5).reshape(count * grid**2, -1)
        states = self.linear(patches.to(self.dtype), self.weight.flatten(1), self.bias)
        x_TH = (states.view(count, grid**2, -1) + self.positions).view(count * grid**2, -1)
        plan = self.attention.plan([grid**2] * count)
        for layer in self.layers:
            x_TH = layer.forward(x_TH, plan)
        rows = self.linear2.forward(F.gelu(self.linear1.forward(self.norm.forward(x_TH), None)), None)
        return rows.view(count, grid**2, -1)
