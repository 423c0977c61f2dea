"""OLMo 2: norms come after attention and MLP instead of before, and over all heads of q and of k at once.

Shape letters: T tokens of the pass, H hidden, O output features, S rows whose logits are wanted, D head dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hookline.layers.activation import gated_activation
from hookline.layers.model import Model
from hookline.layers.ops import ROTARY
from hookline.layers.parameters import Part, Split

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.batch.forward_batch import ForwardBatch
    from hookline.config.model_config import ModelConfig
    from hookline.layers.build import BuildContext

#: cos and sin of the pass, each [T, 1, D].
Rotation = tuple["Tensor", "Tensor"]


class SelfAttention:
    """Grouped-query attention whose q and k are normed over the whole projection before they are rotated."""

    def __init__(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> None:
        heads, kv_heads, head_dim = config.num_q_heads, config.num_kv_heads, config.head_dim
        hidden, bias, eps = config.hidden_size, config.attention_bias, config.rms_norm_eps
        self.head_dim = head_dim
        self.sizes = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim]
        self.qkv_proj = ctx.qkv_linear(
            f"{path}.qkv_proj", hidden, num_q_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, bias=bias
        )
        # The layers for normed heads (`ctx.normed_rotary_heads`) have one weight per head; here it is one per
        # projection. So the steps are done one by one, each with the op that was chosen for it.
        self.q_norm = ctx.rms_norm(f"{path}.q_norm", heads * head_dim, eps)
        self.k_norm = ctx.rms_norm(f"{path}.k_norm", kv_heads * head_dim, eps)
        self.rotate = ctx.ops.request(ROTARY)
        self.attention = ctx.attention(layer_id, num_q_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim)
        self.o_proj = ctx.linear(f"{path}.o_proj", heads * head_dim, hidden, bias=bias, split=Split.ROW)

    def forward(self, x_TH: Tensor, rotation: Rotation, batch: ForwardBatch) -> Tensor:
        qkv_TO = self.qkv_proj.forward(x_TH, batch.lora)
        q_TO, k_TO, v_TO = torch.split(qkv_TO, self.sizes, dim=-1)
        q_TND = self.rotate(self._heads(self.q_norm.forward(q_TO)), *rotation)
        k_TND = self.rotate(self._heads(self.k_norm.forward(k_TO)), *rotation)
        return self.o_proj.forward(self.attention.forward(q_TND, k_TND, self._heads(v_TO), batch), batch.lora)

    def _heads(self, x_TO: Tensor) -> Tensor:
        return x_TO.view(x_TO.shape[0], -1, self.head_dim)


class GatedMLP:
    """down(act(gate(x)) * up(x)), gate and up in one product."""

    def __init__(self, config: ModelConfig, ctx: BuildContext, path: str) -> None:
        hidden, width = config.hidden_size, config.intermediate_size
        gate_up = (Part(name="gate_proj", size=width), Part(name="up_proj", size=width))
        self.gate_up_proj = ctx.merged_linear(f"{path}.gate_up_proj", hidden, gate_up)
        self.down_proj = ctx.linear(f"{path}.down_proj", width, hidden, split=Split.ROW)
        self.activate = gated_activation(config.hidden_act, ctx.ops)

    def forward(self, x_TH: Tensor, lora: object | None) -> Tensor:
        return self.down_proj.forward(self.activate(self.gate_up_proj.forward(x_TH, lora)), lora)


class DecoderLayer:
    """Attention and MLP, each normed before it is added to the residual stream."""

    def __init__(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> None:
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.attention = SelfAttention(config, ctx, layer_id, f"{path}.self_attn")
        self.attention_norm = ctx.rms_norm(f"{path}.post_attention_layernorm", hidden, eps)
        self.mlp = GatedMLP(config, ctx, f"{path}.mlp")
        self.mlp_norm = ctx.rms_norm(f"{path}.post_feedforward_layernorm", hidden, eps)

    def forward(self, x_TH: Tensor, rotation: Rotation, batch: ForwardBatch) -> Tensor:
        x_TH = x_TH + self.attention_norm.forward(self.attention.forward(x_TH, rotation, batch))
        return x_TH + self.mlp_norm.forward(self.mlp.forward(x_TH, batch.lora))


class Olmo2ForCausalLM(Model):
    """Embedding, layers, norm, head."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(config, ctx)
        hidden, vocab = config.hidden_size, config.vocab_size
        self.embed_tokens = ctx.embedding("model.embed_tokens", vocab, hidden)
        self.rotary = ctx.rotary(config.rope, config.head_dim)
        self.layers = [
            DecoderLayer(config, ctx, layer_id, f"model.layers.{layer_id}")
            for layer_id in ctx.layer_ids(config.num_layers)
        ]
        self.norm = ctx.rms_norm("model.norm", hidden, config.rms_norm_eps)
        tied_to = self.embed_tokens if config.tie_word_embeddings else None
        self.lm_head = ctx.lm_head("lm_head", vocab, hidden, tied_to=tied_to)

    def forward(self, batch: ForwardBatch) -> Tensor:
        rotation = self.rotary.forward(batch.positions)
        x_TH = self.embed_tokens.forward(batch.input_ids)
        for layer in self.layers:
            x_TH = layer.forward(x_TH, rotation, batch)
        return self.norm.forward(x_TH)

    def compute_logits(self, hidden_SH: Tensor) -> Tensor:
        return self.lm_head.forward(hidden_SH)

    def map_weight(self, name: str) -> str | None:
        # A tied checkpoint may carry the head a second time.
        if name == "lm_head.weight" and self.config.tie_word_embeddings:
            return None
        return name
