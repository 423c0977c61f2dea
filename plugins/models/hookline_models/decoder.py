"""What the decoder families share: the residual stream, the gated MLP, and the names of checkpoints.

A family's file says what is its own: its attention, and which MLP each layer has.

Shape letters: T tokens of the pass, H hidden, S rows whose logits are wanted, V vocabulary, D head dimension.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from hookline.layers.model import Model
from hookline.layers.parameters import Part, Split

if TYPE_CHECKING:
    from torch import Tensor

    from hookline.batch.forward_batch import EncoderRows, ForwardBatch
    from hookline.config.model_config import ModelConfig
    from hookline.layers.build import BuildContext
    from hookline.layers.linear import Linear
    from hookline.layers.norm import RMSNorm

#: cos and sin of the pass, each [T, 1, D].
Rotation = tuple["Tensor", "Tensor"]


class SelfAttention(Protocol):
    """A family's attention block, behind the product that gives q, k and v."""

    qkv_proj: Linear

    def forward(self, qkv_TO: Tensor, rotation: Rotation, batch: ForwardBatch) -> Tensor:
        """[T, H]. ``qkv_TO`` may be written."""


class MLP(Protocol):
    """A dense or sparse MLP with the norm before it."""

    def forward(self, x_TH: Tensor, residual_TH: Tensor, lora: object | None) -> tuple[Tensor, Tensor]:
        """The MLP of norm(x + residual), [T, H], and x + residual."""


def mlp_norm(config: ModelConfig, ctx: BuildContext, layer_path: str) -> RMSNorm:
    """The norm before the MLP of a layer."""
    return ctx.rms_norm(f"{layer_path}.post_attention_layernorm", config.hidden_size, config.rms_norm_eps)


class GatedMLP:
    """down(act(gate(x)) * up(x)), gate and up in one product."""

    def __init__(self, config: ModelConfig, ctx: BuildContext, path: str, norm: RMSNorm) -> None:
        """``norm`` comes before the MLP: that of ``mlp_norm``."""
        hidden, width = config.hidden_size, config.intermediate_size
        gate_up = (Part(name="gate_proj", size=width), Part(name="up_proj", size=width))
        gate_up_proj = ctx.merged_linear(f"{path}.gate_up_proj", hidden, gate_up, bias=config.mlp_bias)
        self.gate_up = ctx.normed_linear(norm, gate_up_proj, activation=config.hidden_act)
        self.down_proj = ctx.linear(f"{path}.down_proj", width, hidden, bias=config.mlp_bias, split=Split.ROW)

    def forward(self, x_TH: Tensor, residual_TH: Tensor, lora: object | None) -> tuple[Tensor, Tensor]:
        hidden_TI, residual_TH = self.gate_up.forward(x_TH, residual_TH, lora)
        return self.down_proj.forward(hidden_TI, lora), residual_TH


class DecoderLayer:
    """Norm, attention, norm, MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, ctx: BuildContext, path: str, attention: SelfAttention, mlp: MLP) -> None:
        norm = ctx.rms_norm(f"{path}.input_layernorm", config.hidden_size, config.rms_norm_eps)
        self.qkv = ctx.normed_linear(norm, attention.qkv_proj)
        self.attention = attention
        self.mlp = mlp

    def forward(
        self, x_TH: Tensor, residual_TH: Tensor | None, rotation: Rotation, batch: ForwardBatch
    ) -> tuple[Tensor, Tensor]:
        """The MLP's output, not yet added, and the residual stream; the next norm adds them."""
        qkv_TO, residual_TH = self.qkv.forward(x_TH, residual_TH, batch.lora)
        return self.mlp.forward(self.attention.forward(qkv_TO, rotation, batch), residual_TH, batch.lora)


class _MediaParts:
    """Embedding rows of media in a pass: the first H elements of a row take the place of an embedding, each H more
    are added to the hidden state after the next layer, the first one first."""

    def __init__(self, media: EncoderRows | None, hidden_size: int) -> None:
        self._places = None if media is None else media.places
        self._parts: Sequence[Tensor] = () if media is None else torch.split(media.rows, hidden_size, dim=1)

    def place(self, x_TH: Tensor) -> Tensor:
        """The embeddings with the first parts in their places, written in place."""
        if self._places is None:
            return x_TH
        return x_TH.index_copy_(0, self._places, self._parts[0])

    def add(self, x_TH: Tensor, depth: int) -> None:
        """Add a layer's part to its output, in place."""
        if self._places is not None and depth + 1 < len(self._parts):
            x_TH.index_add_(0, self._places, self._parts[depth + 1])


class DecoderModel(Model):
    """Embedding, layers, norm, head."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(config, ctx)
        self.embed_tokens = ctx.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)
        self.rotary = ctx.rotary(config.rope, config.head_dim)
        self.layers = [
            self.build_layer(config, ctx, layer_id, f"model.layers.{layer_id}")
            for layer_id in ctx.layer_ids(config.num_layers)
        ]
        self.norm = ctx.rms_norm("model.norm", config.hidden_size, config.rms_norm_eps)
        self.lm_head = ctx.lm_head(
            "lm_head",
            config.vocab_size,
            config.hidden_size,
            tied_to=self.embed_tokens if config.tie_word_embeddings else None,
        )

    @abstractmethod
    def build_layer(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> DecoderLayer:
        """The layer whose parameters lie under ``path``."""

    def forward(self, batch: ForwardBatch) -> Tensor:
        rotation = self.rotary.forward(batch.positions)
        x_TH = self.embed_tokens.forward(batch.input_ids)
        media = _MediaParts(batch.encoder_rows, self.config.hidden_size)
        x_TH = media.place(x_TH)
        residual_TH: Tensor | None = None
        for depth, layer in enumerate(self.layers):
            x_TH, residual_TH = layer.forward(x_TH, residual_TH, rotation, batch)
            media.add(x_TH, depth)
        if residual_TH is None:
            return self.norm.forward(x_TH)
        return self.norm.add(x_TH, residual_TH)[0]

    def compute_logits(self, hidden_SH: Tensor) -> Tensor:
        return self.lm_head.forward(hidden_SH)

    def map_weight(self, name: str) -> str | None:
        # Buffers that older releases of transformers saved.
        if name.endswith("rotary_emb.inv_freq"):
            return None
        # A tied checkpoint may carry the head a second time.
        if name == "lm_head.weight" and self.config.tie_word_embeddings:
            return None
        # Embedding checkpoints are saved without the head, and then without the prefix too.
        if name.startswith(("layers.", "embed_tokens.", "norm.")):
            return f"model.{name}"
        return name
