"""DeepSeek-VL: a Llama decoder whose placeholders become what the tower saw.

Shape letters: T tokens of the pass, H hidden, O output features, S rows whose logits are wanted, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from hookline.layers.activation import gated_activation
from hookline.layers.model import Model
from hookline.layers.parameters import Part, Split
from hookline_deepseek_vl.tower import Tower

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.batch.forward_batch import ForwardBatch
    from hookline.config.model_config import ModelConfig
    from hookline.interfaces.multimodal import EncoderInput
    from hookline.layers.build import BuildContext

#: cos and sin of the pass, each [T, 1, D].
Rotation = tuple["Tensor", "Tensor"]


class DecoderLayer:
    """Norm, attention, norm, gated MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> None:
        hidden, width, eps = config.hidden_size, config.intermediate_size, config.rms_norm_eps
        heads, kv_heads, head_dim = config.num_q_heads, config.num_kv_heads, config.head_dim
        self.norm1 = ctx.rms_norm(f"{path}.input_layernorm", hidden, eps)
        self.qkv = ctx.qkv_linear(
            f"{path}.self_attn.qkv_proj", hidden, num_q_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim
        )
        self.heads = ctx.rotary_heads(num_q_heads=heads, num_kv_heads=kv_heads)
        self.attention = ctx.attention(layer_id, num_q_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim)
        self.out = ctx.linear(f"{path}.self_attn.o_proj", heads * head_dim, hidden, split=Split.ROW)
        self.norm2 = ctx.rms_norm(f"{path}.post_attention_layernorm", hidden, eps)
        gate_up = (Part(name="gate_proj", size=width), Part(name="up_proj", size=width))
        self.gate_up = ctx.merged_linear(f"{path}.mlp.gate_up_proj", hidden, gate_up)
        self.activate = gated_activation(config.hidden_act, ctx.ops)
        self.down = ctx.linear(f"{path}.mlp.down_proj", width, hidden, split=Split.ROW)

    def forward(self, x_TH: Tensor, rotation: Rotation, batch: ForwardBatch) -> Tensor:
        q, k, v = self.heads.forward(self.qkv.forward(self.norm1.forward(x_TH), batch.lora), *rotation)
        x_TH = x_TH + self.out.forward(self.attention.forward(q, k, v, batch), batch.lora)
        gate_up = self.gate_up.forward(self.norm2.forward(x_TH), batch.lora)
        return x_TH + self.down.forward(self.activate(gate_up), batch.lora)


class DeepseekVLForConditionalGeneration(Model):
    """Tower, decoder, head."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(config, ctx)
        hidden, vocab = config.hidden_size, config.vocab_size
        self.tower = Tower(config, ctx)
        self.embed_tokens = ctx.embedding("model.embed_tokens", vocab, hidden)
        self.rotary = ctx.rotary(config.rope, config.head_dim)
        self.layers = [
            DecoderLayer(config, ctx, layer_id, f"model.layers.{layer_id}")
            for layer_id in ctx.layer_ids(config.num_layers)
        ]
        self.norm = ctx.rms_norm("model.norm", hidden, config.rms_norm_eps)
        tied_to = self.embed_tokens if config.tie_word_embeddings else None
        self.lm_head = ctx.lm_head("lm_head", vocab, hidden, tied_to=tied_to)

    # --- media ---

    @property
    def encoder_row_size(self) -> int:
        return self.config.hidden_size

    def encode(self, items: Sequence[EncoderInput]) -> list[Tensor]:
        # Items of several requests, all of one size here, so that they run as one batch.
        return list(self.tower.forward(torch.stack([item.tensors["pixels"] for item in items])))

    # --- text ---

    def forward(self, batch: ForwardBatch) -> Tensor:
        rotation = self.rotary.forward(batch.positions)
        x_TH = self.embed_tokens.forward(batch.input_ids)
        if batch.encoder_rows is not None:
            # Those of this pass only: core cuts them where chunks and cached prefixes end.
            x_TH.index_copy_(0, batch.encoder_rows.places, batch.encoder_rows.rows)
        for layer in self.layers:
            x_TH = layer.forward(x_TH, rotation, batch)
        return self.norm.forward(x_TH)

    def compute_logits(self, hidden_SH: Tensor) -> Tensor:
        return self.lm_head.forward(hidden_SH)

    def map_weight(self, name: str) -> str | None:
        if name == "lm_head.weight" and self.config.tie_word_embeddings:
            return None
        name = name.removeprefix("model.")
        if name.startswith("vision_model."):
            # The head that makes one vector of a picture is not needed.
            return None if name.startswith("vision_model.head.") else name
        return name.replace("language_model.", "model.", 1)
