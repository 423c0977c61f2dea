"""Qwen3: an RMS norm on every q and k head before the rotation, no biases unless asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hookline.layers.parameters import Split
from hookline_models.decoder import DecoderLayer, DecoderModel, GatedMLP, mlp_norm

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.batch.forward_batch import ForwardBatch
    from hookline.config.model_config import ModelConfig
    from hookline.layers.build import BuildContext
    from hookline_models.decoder import Rotation


class Qwen3Attention:
    """Grouped-query attention with normed heads; the whole Qwen3 line uses it."""

    def __init__(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> None:
        heads, kv_heads, head_dim = config.num_q_heads, config.num_kv_heads, config.head_dim
        bias = config.attention_bias
        self.qkv_proj = ctx.qkv_linear(
            f"{path}.qkv_proj",
            config.hidden_size,
            num_q_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            bias=bias,
        )
        self.heads = ctx.normed_rotary_heads(
            path, num_q_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, eps=config.rms_norm_eps
        )
        self.attention = ctx.attention(
            layer_id,
            num_q_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            window=config.layer_windows[layer_id],
        )
        self.o_proj = ctx.linear(f"{path}.o_proj", heads * head_dim, config.hidden_size, bias=bias, split=Split.ROW)

    def forward(self, qkv_TO: Tensor, rotation: Rotation, batch: ForwardBatch) -> Tensor:
        cos_T1D, sin_T1D = rotation
        return self.o_proj.forward(self.heads.attend(qkv_TO, cos_T1D, sin_T1D, self.attention, batch), batch.lora)


class Qwen3ForCausalLM(DecoderModel):
    """Qwen3 dense models."""

    def build_layer(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> DecoderLayer:
        attention = Qwen3Attention(config, ctx, layer_id, f"{path}.self_attn")
        mlp = GatedMLP(config, ctx, f"{path}.mlp", mlp_norm(config, ctx, path))
        return DecoderLayer(config, ctx, path, attention, mlp)
