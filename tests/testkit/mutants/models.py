"""Broken models. Each class of tests names the test that must fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hookline.interfaces.model import ModelSpec
from hookline.testkit.models import ModelSuite
from hookline_models.decoder import DecoderLayer, GatedMLP, mlp_norm
from hookline_models.llama import LlamaAttention, LlamaForCausalLM
from hookline_models.qwen3_vl.model import Qwen3VLMoeForConditionalGeneration
from tests.factories.checkpoints import config_of

if TYPE_CHECKING:
    from hookline.batch.forward_batch import ForwardBatch
    from hookline.config.model_config import ModelConfig
    from hookline.layers.build import BuildContext


def spec(target: str, architecture: str = "LlamaForCausalLM", **more: Any) -> ModelSpec:
    return ModelSpec(
        name="broken",
        target=f"{__name__}:{target}",
        architectures=(architecture,),
        features=frozenset({"lora", "embedding", "tied_embeddings", *more.pop("features", ())}),
        summary="broken on purpose",
        **more,
    )


class CountsAnew(LlamaForCausalLM):
    """Numbers the tokens of a pass itself."""

    def forward(self, batch: ForwardBatch) -> Tensor:
        lengths = batch.geometry.extend_lens_cpu
        positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)
        return super().forward(replace(batch, positions=positions))


class TestCountsAnew(ModelSuite):
    spec = spec("CountsAnew")
    caught_by = "test_prefill_logits_in_chunks"


class DropsBiases(LlamaForCausalLM):
    """Knows no biases, and has no use for those of a checkpoint."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(replace(config, attention_bias=False, mlp_bias=False), ctx)

    def map_weight(self, name: str) -> str | None:
        return None if name.endswith(".bias") else super().map_weight(name)


class TestDropsBiases(ModelSuite):
    spec = spec("DropsBiases")
    hf_config: ClassVar[Mapping[str, Any]] = {"attention_bias": True, "mlp_bias": True}
    caught_by = "test_every_tensor_of_a_checkpoint_has_a_place"


class OwnTensor(LlamaForCausalLM):
    """Makes the weight of its last norm itself, so that nothing fills it."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(config, ctx)
        self.norm.weight = torch.ones(config.hidden_size)


class TestOwnTensor(ModelSuite):
    spec = spec("OwnTensor")
    caught_by = "test_prefill_logits_of_a_batch"


class KeepsTheFirst(LlamaForCausalLM):
    """Transposes the head once, and keeps that when weights are loaded again."""

    _head: Tensor | None = None

    def compute_logits(self, hidden_SH: Tensor) -> Tensor:
        if self._head is None:
            self._head = self.lm_head.weight.T.contiguous()
        return (hidden_SH @ self._head).float()


class TestKeepsTheFirst(ModelSuite):
    spec = spec("KeepsTheFirst")
    caught_by = "test_weights_that_are_loaded_again_take_effect"


class NormsLate(LlamaForCausalLM):
    """Leaves the last norm to the head, so that embeddings are made of states without it."""

    def forward(self, batch: ForwardBatch) -> Tensor:
        rotation = self.rotary.forward(batch.positions)
        x_TH, residual_TH = self.embed_tokens.forward(batch.input_ids), None
        for layer in self.layers:
            x_TH, residual_TH = layer.forward(x_TH, residual_TH, rotation, batch)
        assert residual_TH is not None
        return x_TH + residual_TH

    def compute_logits(self, hidden_SH: Tensor) -> Tensor:
        return super().compute_logits(self.norm.forward(hidden_SH))


class TestNormsLate(ModelSuite):
    spec = spec("NormsLate")
    caught_by = "test_hidden_states_are_those_of_the_reference"


class HalfLogits(LlamaForCausalLM):
    """Answers in the compute dtype."""

    def compute_logits(self, hidden_SH: Tensor) -> Tensor:
        return F.linear(hidden_SH, self.lm_head.weight)


class TestHalfLogits(ModelSuite):
    spec = spec("HalfLogits")
    caught_by = "test_states_are_in_the_compute_dtype_and_logits_in_float32"


class TestRawProduct(ModelSuite):
    """A product that no op makes: its bits depend on the number of rows."""

    spec = spec("HalfLogits")
    caught_by = "test_deterministic_engines_give_the_same_bits_in_any_batch"


class Untied(LlamaForCausalLM):
    """Has a head of its own even where the checkpoint ties it."""

    def __init__(self, config: ModelConfig, ctx: BuildContext) -> None:
        super().__init__(replace(config, tie_word_embeddings=False), ctx)


class TestUntied(ModelSuite):
    spec = spec("Untied")
    caught_by = "test_tied_embeddings"


class MLPWithoutAdapters(GatedMLP):
    def forward(self, x_TH: Tensor, residual_TH: Tensor, lora: object | None) -> tuple[Tensor, Tensor]:
        return super().forward(x_TH, residual_TH, None)


class ForgetsAdapters(LlamaForCausalLM):
    """Does not hand the pass's adapters to its MLPs."""

    def build_layer(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> DecoderLayer:
        attention = LlamaAttention(config, ctx, layer_id, f"{path}.self_attn")
        norm = mlp_norm(config, ctx, path)
        return DecoderLayer(config, ctx, path, attention, MLPWithoutAdapters(config, ctx, f"{path}.mlp", norm))


class TestForgetsAdapters(ModelSuite):
    spec = spec("ForgetsAdapters")
    caught_by = "test_adapters_give_the_logits_of_merged_weights"


class ShiftsPositions(LlamaForCausalLM):
    """Numbers positions from 1, in place."""

    def forward(self, batch: ForwardBatch) -> Tensor:
        batch.positions = batch.positions + 1
        return super().forward(batch)


class TestShiftsPositions(ModelSuite):
    spec = spec("ShiftsPositions")
    caught_by = "test_the_pass_is_left_as_it_was"


class OnePlane(Qwen3VLMoeForConditionalGeneration):
    """Turns every frequency by the first plane of positions."""

    def forward(self, batch: ForwardBatch) -> Tensor:
        return super().forward(replace(batch, positions=batch.positions[:1].expand(3, -1)))


class TestOnePlane(ModelSuite):
    spec = spec("OnePlane", "Qwen3VLMoeForConditionalGeneration", position_planes=3, features=("mrope",))
    hf_config: ClassVar[Mapping[str, Any]] = config_of("qwen3_vl_moe")
    caught_by = "test_position_planes_that_differ"


class BatchScaled(LlamaForCausalLM):
    """Scales the states by the largest of the whole pass."""

    def forward(self, batch: ForwardBatch) -> Tensor:
        hidden_TH = super().forward(batch)
        return hidden_TH / hidden_TH.abs().max()


class TestBatchScaled(ModelSuite):
    spec = spec("BatchScaled")
    caught_by = "test_prefill_logits_of_a_batch"


class LayersFromOne(LlamaForCausalLM):
    """Counts its attention layers from 1, as nothing else does."""

    def build_layer(self, config: ModelConfig, ctx: BuildContext, layer_id: int, path: str) -> DecoderLayer:
        return super().build_layer(config, ctx, layer_id + 1, path)


class TestLayersFromOne(ModelSuite):
    spec = spec("LayersFromOne")
    caught_by = "test_the_kv_cache_has_one_entry_for_each_layer"
