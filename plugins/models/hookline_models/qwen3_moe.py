"""Qwen3-MoE: Qwen3 attention, and experts instead of one MLP in most layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hookline.errors import ModelError
from hookline_models.decoder import MLP, DecoderLayer, DecoderModel, GatedMLP, mlp_norm
from hookline_models.qwen3 import Qwen3Attention

if TYPE_CHECKING:
    from hookline.config.model_config import ModelConfig
    from hookline.layers.build import BuildContext
    from hookline.layers.norm import RMSNorm


class Qwen3MoeForCausalLM(DecoderModel):
    """Qwen3 mixture-of-experts models."""

    def build_layer(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> DecoderLayer:
        attention = Qwen3Attention(config, ctx, layer_id, f"{path}.self_attn")
        mlp = self.build_mlp(config, ctx, layer_id, f"{path}.mlp", mlp_norm(config, ctx, path))
        return DecoderLayer(config, ctx, path, attention, mlp)

    def build_mlp(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str, norm: RMSNorm) -> MLP:
        """Experts, or a dense MLP in the layers that the config excepts."""
        moe = config.moe
        if moe is None:
            raise ModelError(f"{config.path / 'config.json'} describes no experts (num_experts is missing)")
        if layer_id not in moe.layers:
            return GatedMLP(config, ctx, path, norm)
        experts = ctx.moe(
            path,
            hidden_size=config.hidden_size,
            intermediate_size=moe.intermediate_size,
            num_experts=moe.num_experts,
            top_k=moe.top_k,
            renormalize=self.renormalizes(config),
        )
        return ctx.normed_moe(norm, experts)

    def renormalizes(self, config: ModelConfig) -> bool:
        """Whether the weights of a token's experts are divided by their sum."""
        return config.moe is not None and config.moe.norm_topk_prob
