"""The released models' configurations build on the meta device, and every tensor of their checkpoints has a place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hookline.config.model_config import ModelConfig
from hookline.errors import ModelError
from hookline.layers.build import BuildContext
from hookline.layers.model import Model
from hookline.layers.ops import Ops
from hookline.worker.model_loader import load_weights
from hookline_models.qwen3_vl.model import Qwen3VLForConditionalGeneration, Qwen3VLMoeForConditionalGeneration
from tests.factories.vision import make_vision_checkpoint

_VISION = {
    "depth": 27,
    "hidden_size": 1152,
    "hidden_act": "gelu_pytorch_tanh",
    "intermediate_size": 4304,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [8, 16, 24],
}
_TEXT = {
    "vocab_size": 151936,
    "head_dim": 128,
    "num_key_value_heads": 4,
    "max_position_embeddings": 262144,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5000000,
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
}
_EXPERTS = {"num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": []}
#: Name -> text sizes: hidden, layers, heads, width of an expert or of the MLP.
SIZES = {
    "235B-A22B": (4096, 94, 64, 1536),
    "30B-A3B": (2048, 48, 32, 768),
    "8B": (4096, 36, 32, 12288),
}


def is_dense(name: str) -> bool:
    return name == "8B"


def write_config(directory: Path, name: str) -> Path:
    hidden, layers, heads, width = SIZES[name]
    text: dict[str, Any] = {**_TEXT, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    if is_dense(name):
        text |= {"intermediate_size": width, "num_key_value_heads": 8}
    else:
        text |= {**_EXPERTS, "moe_intermediate_size": width, "intermediate_size": 3 * hidden}
    architecture = "Qwen3VLForConditionalGeneration" if is_dense(name) else "Qwen3VLMoeForConditionalGeneration"
    config = {
        "architectures": [architecture],
        "model_type": "qwen3_vl" if is_dense(name) else "qwen3_vl_moe",
        "text_config": text,
        "vision_config": {**_VISION, "out_hidden_size": hidden},
        "tie_word_embeddings": False,
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def build_on_meta(directory: Path, name: str) -> Model:
    config = ModelConfig.load(directory)
    device = torch.device("meta")
    ctx = BuildContext(device=device, dtype=torch.bfloat16, ops=Ops(), max_positions=16)
    if is_dense(name):
        return Qwen3VLForConditionalGeneration(config, ctx)
    return Qwen3VLMoeForConditionalGeneration(config, ctx)


def published(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the released bfloat16 checkpoint, with its shape."""
    hidden, layers, heads, width = SIZES[name]
    kv = (8 if is_dense(name) else 4) * 128
    yield "lm_head.weight", (151936, hidden)
    yield "model.language_model.embed_tokens.weight", (151936, hidden)
    yield "model.language_model.norm.weight", (hidden,)
    for layer in range(layers):
        path = f"model.language_model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{path}.{norm}.weight", (hidden,)
        for norm in ("q_norm", "k_norm"):
            yield f"{path}.self_attn.{norm}.weight", (128,)
        yield f"{path}.self_attn.q_proj.weight", (heads * 128, hidden)
        yield f"{path}.self_attn.k_proj.weight", (kv, hidden)
        yield f"{path}.self_attn.v_proj.weight", (kv, hidden)
        yield f"{path}.self_attn.o_proj.weight", (hidden, heads * 128)
        if is_dense(name):
            for part in ("gate_proj", "up_proj"):
                yield f"{path}.mlp.{part}.weight", (width, hidden)
            yield f"{path}.mlp.down_proj.weight", (hidden, width)
        else:
            yield f"{path}.mlp.gate.weight", (128, hidden)
            yield f"{path}.mlp.experts.gate_up_proj", (128, hidden, 2 * width)
            yield f"{path}.mlp.experts.down_proj", (128, width, hidden)
    yield from published_tower(hidden)


def published_tower(hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner, merged = 1152, 4304, 4608
    yield "model.visual.patch_embed.proj.weight", (width, 3, 2, 16, 16)
    yield "model.visual.patch_embed.proj.bias", (width,)
    yield "model.visual.pos_embed.weight", (2304, width)
    for block in range(27):
        path = f"model.visual.blocks.{block}"
        linears = {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.linear_fc1": (inner, width),
            "mlp.linear_fc2": (width, inner),
        }
        for linear, shape in linears.items():
            yield f"{path}.{linear}.weight", shape
            yield f"{path}.{linear}.bias", shape[:1]
        for norm in ("norm1", "norm2"):
            yield f"{path}.{norm}.weight", (width,)
            yield f"{path}.{norm}.bias", (width,)
    mergers = {"merger": width, **{f"deepstack_merger_list.{index}": merged for index in range(3)}}
    for merger, norm_width in mergers.items():
        path = f"model.visual.{merger}"
        yield f"{path}.norm.weight", (norm_width,)
        yield f"{path}.norm.bias", (norm_width,)
        for linear, out in (("linear_fc1", merged), ("linear_fc2", hidden)):
            yield f"{path}.{linear}.weight", (out, merged)
            yield f"{path}.{linear}.bias", (out,)


@pytest.mark.parametrize("name", SIZES)
def test_every_published_tensor_has_a_place_of_its_shape(name: str, tmp_path: Path) -> None:
    model = build_on_meta(write_config(tmp_path, name), name)
    tensors = dict(published(name))
    source = {model.map_weight(known): known for known in tensors}
    taken = set()
    for parameter in model.parameters.values():
        shapes = [{piece: tensors.get(source.get(piece.name, "")) for piece in form} for form in parameter.forms]
        fitting = [form for form in shapes if all(shape == piece.shape for piece, shape in form.items())]
        assert fitting, parameter.name
        for piece in fitting[0]:
            assert piece.place(parameter.data).shape == piece.shape
            taken.add(source[piece.name])
    assert taken == set(tensors)
    assert model.encoder_row_size == 4 * SIZES[name][0]


def test_names_without_the_outer_model_are_known_too(tmp_path: Path) -> None:
    model = build_on_meta(write_config(tmp_path, "8B"), "8B")
    assert model.map_weight("visual.merger.norm.weight") == "model.visual.merger.norm.weight"


def test_experts_in_eight_bits_are_refused_by_their_names(tmp_path: Path) -> None:
    """The FP8 release has a tensor and scales for each expert."""
    path = make_vision_checkpoint(tmp_path)
    model = BuildContext(device=torch.device("cpu"), dtype=torch.float32, ops=Ops(), max_positions=16)
    built = Qwen3VLMoeForConditionalGeneration(ModelConfig.load(path), model)
    for file in path.glob("*.safetensors"):
        file.unlink()
    layer = "model.language_model.layers.0.mlp.experts.0.gate_proj"
    tensors = {
        f"{layer}.weight": torch.zeros(40, 64, dtype=torch.float8_e4m3fn),
        f"{layer}.weight_scale_inv": torch.zeros(1, 1),
    }
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"is quantised .*weight_scale_inv.* not supported; use the checkpoint in bf"):
        load_weights(built, path)
