"""BuildContext: what models get from it, and what the loader and LoRA find in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hookline.batch.forward_batch import AttentionGeometry
from hookline.config.rope_config import RopeConfig
from hookline.errors import ModelError
from hookline.interfaces.lora import LoRABackend, LoRAEnv
from hookline.layers.activation import gated_activation
from hookline.layers.build import BuildContext
from hookline.layers.linear import Linear, LinearMethod, LinearShape, Projection
from hookline.layers.ops import Ops
from hookline.layers.parameters import Parameter, Part, Split, whole

CPU = torch.device("cpu")


def context(**changes: Any) -> BuildContext:
    return BuildContext(**{"device": CPU, "dtype": torch.float32, "ops": Ops(), "max_positions": 32, **changes})


def fill(ctx: BuildContext) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in ctx.parameters.values():
        parameter.data.copy_(torch.randn(parameter.data.shape, generator=generator))


class AddOne(LoRABackend):
    """Adds 1 wherever it is asked, and notes where that was."""

    def __init__(self) -> None:
        super().__init__(LoRAEnv(device=CPU, dtype=torch.float32, layers={}, max_adapters=1, max_rank=1))
        self.asked: list[str] = []

    def load(self, slot: int, name: str, path: Path) -> None: ...
    def unload(self, slot: int) -> None: ...
    def plan(self, adapters: Sequence[int], geometry: AttentionGeometry) -> object:
        return object()

    def add_delta(self, layer: Linear, x_TI: torch.Tensor, out_TO: torch.Tensor, plan: object) -> torch.Tensor:
        self.asked.append(layer.shape.path)
        return out_TO + 1


def test_fused_layers_have_one_weight_and_a_shard_description() -> None:
    ctx = context()
    qkv = ctx.qkv_linear("l.qkv_proj", 8, num_q_heads=4, num_kv_heads=2, head_dim=3, bias=True)
    gate_up = ctx.merged_linear("l.gate_up_proj", 8, [Part(name="gate_proj", size=5), Part(name="up_proj", size=5)])
    ctx.linear("l.o_proj", 12, 8, split=Split.ROW)
    shapes = {name: tuple(parameter.data.shape) for name, parameter in ctx.parameters.items()}
    assert shapes == {
        "l.qkv_proj.weight": (24, 8),
        "l.qkv_proj.bias": (24,),
        "l.gate_up_proj.weight": (10, 8),
        "l.o_proj.weight": (8, 12),
    }
    assert (qkv.shape.out_features, gate_up.shape.out_features) == (24, 10)
    weight = ctx.parameters["l.qkv_proj.weight"]
    assert [(part.name, part.size) for part in weight.parts] == [("q_proj", 12), ("k_proj", 6), ("v_proj", 6)]
    assert weight.split is Split.COLUMN
    assert [piece.name for piece in weight.forms[0]] == ["l.q_proj.weight", "l.k_proj.weight", "l.v_proj.weight"]
    assert ctx.parameters["l.o_proj.weight"].split is Split.ROW
    assert set(ctx.linears) == {"l.qkv_proj", "l.gate_up_proj", "l.o_proj"}


def test_a_linear_layer_multiplies_and_adds_its_bias() -> None:
    ctx = context()
    layer = ctx.linear("l.fc", 4, 3, bias=True)
    fill(ctx)
    ctx.finalize()
    x = torch.randn(5, 4)
    bias = ctx.parameters["l.fc.bias"].data
    torch.testing.assert_close(layer.forward(x, None), x @ layer.weight.t() + bias)


def test_lora_reaches_every_linear_layer_of_a_pass_with_adapters() -> None:
    ctx = context()
    layer = ctx.linear("l.fc", 4, 3)
    moe = ctx.moe("l.mlp", hidden_size=4, intermediate_size=6, num_experts=3, top_k=2, renormalize=True)
    fill(ctx)
    ctx.finalize()
    x = torch.randn(5, 4)
    plain = layer.forward(x, None)
    backend = AddOne()
    ctx.finalize(backend)
    assert torch.equal(layer.forward(x, None), plain)
    assert backend.asked == []
    assert torch.equal(layer.forward(x, object()), plain + 1)
    moe.forward(x, object())
    assert backend.asked == ["l.fc", "l.mlp.gate"]


def test_layers_refuse_to_run_before_finalize() -> None:
    ctx = context()
    layer = ctx.linear("l.fc", 4, 3)
    moe = ctx.moe("l.mlp", hidden_size=4, intermediate_size=6, num_experts=3, top_k=2, renormalize=True)
    with pytest.raises(RuntimeError, match=r"l\.fc was used before"):
        layer.forward(torch.zeros(1, 4), None)
    moe.router.forward = lambda x, lora: torch.zeros(1, 3)
    with pytest.raises(RuntimeError, match=r"l\.mlp\.experts was used before"):
        moe.forward(torch.zeros(1, 4), None)


def test_finalize_takes_new_weights_up() -> None:
    ctx = context()
    heads = ctx.normed_rotary_heads("l", num_q_heads=2, num_kv_heads=1, head_dim=4, eps=1e-6)
    cos, sin = torch.ones(1, 1, 4), torch.zeros(1, 1, 4)
    qkv = torch.randn(1, 16)
    results = []
    for value in (1.0, 2.0):
        for parameter in ctx.parameters.values():
            parameter.data.fill_(value)
        ctx.finalize()
        results.append(heads.forward(qkv, cos, sin))
    torch.testing.assert_close(results[1][0], 2 * results[0][0])
    torch.testing.assert_close(results[1][1], 2 * results[0][1])
    torch.testing.assert_close(results[1][2], results[0][2])


class Doubling(LinearMethod):
    """A weight format of its own: twice the stored weight."""

    def parameters(self, shape: LinearShape, dtype: torch.dtype, device: torch.device) -> list[Parameter]:
        name = f"{shape.path}.half"
        data = torch.empty(shape.out_features, shape.in_features, dtype=dtype, device=device)
        return [Parameter(name=name, data=data, forms=whole(name, data.shape))]

    def bind(self, shape: LinearShape, parameters: list[Parameter], ops: Ops) -> Projection:
        weight = 2 * parameters[0].data
        return lambda x: x @ weight.t()


def test_a_weight_format_replaces_that_of_every_layer_but_the_router() -> None:
    ctx = context(linear_method=Doubling())
    layer = ctx.linear("l.fc", 4, 3)
    ctx.moe("l.mlp", hidden_size=4, intermediate_size=6, num_experts=3, top_k=2, renormalize=True)
    fill(ctx)
    ctx.finalize()
    x = torch.randn(2, 4)
    torch.testing.assert_close(layer.forward(x, None), 2 * x @ ctx.parameters["l.fc.half"].data.t())
    assert "l.mlp.gate.weight" in ctx.parameters


def test_a_tied_head_has_no_parameter() -> None:
    ctx = context()
    embedding = ctx.embedding("model.embed_tokens", 10, 4)
    head = ctx.lm_head("lm_head", 10, 4, tied_to=embedding)
    fill(ctx)
    assert set(ctx.parameters) == {"model.embed_tokens.weight"}
    logits = head.forward(embedding.forward(torch.tensor([3])))
    torch.testing.assert_close(logits, embedding.weight[3:4] @ embedding.weight.t())


def test_logits_are_float32_whatever_the_compute_dtype() -> None:
    ctx = context(dtype=torch.bfloat16)
    head = ctx.lm_head("lm_head", 10, 4)
    fill(ctx)
    assert head.forward(torch.ones(1, 4, dtype=torch.bfloat16)).dtype == torch.float32


def test_attention_layers_are_listed_for_the_kv_cache() -> None:
    ctx = context()
    ctx.attention(0, num_q_heads=4, num_kv_heads=2, head_dim=16)
    ctx.attention(1, num_q_heads=4, num_kv_heads=2, head_dim=16, scale=0.5, window=8)
    first, second = ctx.attention_layers
    assert (first.layer_id, first.scale, first.window) == (0, 0.25, None)
    assert (second.layer_id, second.scale, second.window) == (1, 0.5, 8)


def test_layers_with_the_same_rotation_share_its_table() -> None:
    ctx = context()
    rope = RopeConfig(theta=100.0)
    assert ctx.rotary(rope, 8) is ctx.rotary(RopeConfig(theta=100.0), 8)
    assert ctx.rotary(rope, 16) is not ctx.rotary(rope, 8)


def test_a_rank_builds_its_range_of_layers() -> None:
    assert list(context().layer_ids(3)) == [0, 1, 2]
    assert list(context(layer_range=range(2, 4)).layer_ids(6)) == [2, 3]


def test_two_parameters_of_one_name_are_refused() -> None:
    ctx = context()
    ctx.rms_norm("model.norm", 4, 1e-6)
    with pytest.raises(ValueError, match=r"two parameters named 'model\.norm\.weight'"):
        ctx.rms_norm("model.norm", 4, 1e-6)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ModelError, match="activation 'relu2' is not supported"):
        gated_activation("relu2", Ops())
