"""Rotation tables against transformers, for every scaling and for position planes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeTextRotaryEmbedding

from hookline.config.rope_config import RopeConfig
from hookline.layers.ops import rotary
from hookline.layers.rotary import RotaryEmbedding, inverse_frequencies

HEAD_DIM = 64
CONTEXT = 2048
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
    "yarn with settings": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 256,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "truncate": False,
        "mscale": 1.0,
        "mscale_all_dim": 0.8,
    },
    "yarn with a given attention factor": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 512,
        "attention_factor": 1.25,
    },
}


def parse(text: dict[str, Any]) -> RopeConfig:
    return RopeConfig.parse(text, head_dim=HEAD_DIM, context_len=CONTEXT, where="config.json")


def embedding(rope: RopeConfig, dtype: torch.dtype = torch.float32) -> RotaryEmbedding:
    return RotaryEmbedding(rope, HEAD_DIM, CONTEXT, dtype, torch.device("cpu"))


@pytest.mark.parametrize("name", SCALINGS)
def test_scaled_frequencies_are_those_of_transformers(name: str) -> None:
    parameters = {"rope_theta": 5000.0, **SCALINGS[name]}
    config = transformers.LlamaConfig(
        head_dim=HEAD_DIM, max_position_embeddings=CONTEXT, rope_parameters=dict(parameters)
    )
    expected, expected_scale = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config)
    got, scale = inverse_frequencies(parse({"rope_parameters": parameters}), HEAD_DIM)
    torch.testing.assert_close(got, expected)
    assert scale == pytest.approx(expected_scale)


def test_one_plane_turns_as_transformers_does() -> None:
    rope = parse({"rope_theta": 10000.0})
    positions = torch.tensor([0, 1, 5, 900])
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(4, 3, HEAD_DIM, generator=generator), torch.randn(4, 2, HEAD_DIM, generator=generator)
    cos, sin = embedding(rope).forward(positions.unsqueeze(0))

    angles = torch.outer(positions.float(), inverse_frequencies(rope, HEAD_DIM)[0]).repeat(1, 2)
    expected_q, expected_k = apply_rotary_pos_emb(
        q.transpose(0, 1)[None], k.transpose(0, 1)[None], angles.cos()[None], angles.sin()[None]
    )
    torch.testing.assert_close(rotary(q, cos, sin), expected_q[0].transpose(0, 1))
    torch.testing.assert_close(rotary(k, cos, sin), expected_k[0].transpose(0, 1))


@pytest.mark.parametrize("section", [(12, 10, 10), (16, 8, 8)])
def test_interleaved_planes_turn_as_transformers_does(section: tuple[int, int, int]) -> None:
    parameters = {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": list(section),
        "mrope_interleaved": True,
    }
    text: Any = transformers.Qwen3VLMoeTextConfig(head_dim=HEAD_DIM, rope_parameters=dict(parameters))
    module = Qwen3VLMoeTextRotaryEmbedding(text)
    positions = torch.tensor([[0, 1, 2, 700], [0, 1, 9, 20], [0, 1, 4, 33]])
    expected_cos, expected_sin = module(torch.zeros(1), positions.unsqueeze(1))
    cos, sin = embedding(parse({"rope_parameters": parameters})).forward(positions)
    half = HEAD_DIM // 2
    torch.testing.assert_close(cos[:, 0], expected_cos[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(sin[:, 0, half:], expected_sin[0][:, half:], atol=1e-6, rtol=0)
    torch.testing.assert_close(sin[:, 0, :half], -expected_sin[0][:, :half], atol=1e-6, rtol=0)


def test_blocks_of_planes_follow_their_sections() -> None:
    rope = parse({"rope_theta": 100.0, "rope_scaling": {"type": "mrope", "mrope_section": [16, 8, 8]}})
    assert rope.position_planes == 3
    cos, _ = embedding(rope).forward(torch.tensor([[3], [50], [700]]))
    plane_of = torch.tensor([3] * 16 + [50] * 8 + [700] * 8).float()
    expected = (plane_of * inverse_frequencies(rope, HEAD_DIM)[0]).cos().repeat(2)
    torch.testing.assert_close(cos[0, 0], expected, atol=1e-6, rtol=0)


def test_equal_planes_are_one_plane() -> None:
    positions = torch.tensor([0, 7, 31, 2000])
    mrope = {"rope_theta": 5e6, "rope_parameters": {"mrope_section": [12, 10, 10], "mrope_interleaved": True}}
    three = embedding(parse(mrope)).forward(positions.expand(3, -1))
    one = embedding(parse({"rope_theta": 5e6})).forward(positions.unsqueeze(0))
    assert torch.equal(three[0], one[0])
    assert torch.equal(three[1], one[1])


def test_the_table_is_kept_in_the_compute_dtype() -> None:
    cos, sin = embedding(parse({"rope_theta": 100.0}), torch.bfloat16).forward(torch.tensor([[1, 2]]))
    assert cos.dtype == sin.dtype == torch.bfloat16
    assert cos.shape == sin.shape == (2, 1, HEAD_DIM)
