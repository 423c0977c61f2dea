"""ModelConfig reads what checkpoints have written over the years, and says what is wrong with the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from hookline.config.model_config import ModelConfig, MoEConfig, PoolingConfig
from hookline.config.text_defaults import TEXT_DEFAULTS
from hookline.errors import ModelError
from tests.factories.checkpoints import make_model

BASE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": 100,
}


def write(directory: Path, config: Any = None, **files: Any) -> Path:
    """A checkpoint directory with config.json and other JSON files, named without their ending."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(BASE if config is None else config))
    for name, values in files.items():
        path = directory / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return directory


def load(directory: Path, **changes: Any) -> ModelConfig:
    return ModelConfig.load(write(directory, {**BASE, **changes}))


def test_a_plain_config(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.architectures == ("LlamaForCausalLM",)
    assert (config.num_q_heads, config.num_kv_heads, config.head_dim) == (4, 2, 16)
    assert (config.context_len, config.vocab_size, config.num_layers) == (512, 100, 4)
    assert config.dtype == "float32"
    assert config.layer_windows == (None,) * 4
    assert config.moe is None
    assert config.eos_token_ids == ()
    assert not config.tie_word_embeddings
    assert config.position_planes == 1


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "qwen3_moe", "qwen3_vl_moe"])
def test_what_transformers_saves_is_read(family: str, tmp_path: Path) -> None:
    model = make_model(family)
    model.save_pretrained(tmp_path)
    config = ModelConfig.load(tmp_path)
    text = model.config.get_text_config()
    assert config.architectures == (type(model).__name__,)
    assert (config.hidden_size, config.num_layers, config.vocab_size) == (
        text.hidden_size,
        text.num_hidden_layers,
        text.vocab_size,
    )
    assert config.head_dim == getattr(text, "head_dim", text.hidden_size // text.num_attention_heads)
    assert config.rope.theta == text.rope_parameters["rope_theta"]
    assert (config.moe is not None) == family.endswith("moe")
    assert config.position_planes == (3 if "vl" in family else 1)


def test_sizes_of_a_nested_text_config_count_and_the_outer_tie_decides(tmp_path: Path) -> None:
    text = {**BASE, "tie_word_embeddings": True, "hidden_size": 32, "head_dim": 32}
    outer = {"architectures": ["X"], "text_config": text, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    config = ModelConfig.load(write(tmp_path, outer))
    assert (config.hidden_size, config.head_dim) == (32, 32)
    assert not config.tie_word_embeddings
    assert config.dtype == "bfloat16"
    assert config.text["hidden_size"] == 32
    assert config.raw["architectures"] == ["X"]


def test_a_nested_text_config_may_leave_out_the_defaults_of_llama(tmp_path: Path) -> None:
    """As llava-1.5-7b-hf does; what transformers makes of the same is the oracle."""
    text: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}
    text |= {"model_type": "llama", "rms_norm_eps": 1e-05, "vocab_size": 32064}
    config = ModelConfig.load(
        write(tmp_path, {"architectures": ["LlavaForConditionalGeneration"], "text_config": text})
    )
    theirs = LlamaConfig(**text)
    assert (config.hidden_size, config.intermediate_size) == (theirs.hidden_size, theirs.intermediate_size)
    assert (config.num_layers, config.num_q_heads) == (theirs.num_hidden_layers, theirs.num_attention_heads)
    assert (config.num_kv_heads, config.head_dim) == (theirs.num_key_value_heads, theirs.head_dim)
    assert (config.vocab_size, config.context_len, config.rms_norm_eps) == (32064, 4096, 1e-05)
    assert config.hidden_act == theirs.hidden_act
    for key, value in TEXT_DEFAULTS["llama"].items():
        assert getattr(LlamaConfig(), key) == value


def test_other_families_and_plain_configs_have_no_defaults(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'hidden_size' is missing"):
        ModelConfig.load(write(tmp_path, {"architectures": ["X"], "text_config": {"model_type": "other"}}))
    with pytest.raises(ModelError, match="'hidden_size' is missing"):
        load(tmp_path, model_type="llama", hidden_size=None)


def test_both_spellings_of_rope(tmp_path: Path) -> None:
    old = load(tmp_path, rope_theta=7000.0, rope_scaling={"type": "linear", "factor": 2.0})
    new = load(tmp_path, rope_parameters={"rope_theta": 7000.0, "rope_type": "linear", "factor": 2.0})
    assert old.rope == new.rope
    assert (old.rope.theta, old.rope.rope_type, old.rope.factor) == (7000.0, "linear", 2.0)


def test_yarn_stretches_the_context(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    assert load(tmp_path, rope_scaling=yarn).context_len == 2048


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "proportional"])
def test_an_unsupported_rope_scaling_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"rope type '{kind}' is not supported.*yarn"):
        load(tmp_path, rope_scaling={"rope_type": kind, "factor": 2.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"rope_scaling": {"mrope_section": [1, 2, 3]}}, "half the head dimension, 8"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"num_hidden_layers": 0}, "must be a positive integer"),
        ({"vocab_size": "many"}, "must be a positive integer"),
        ({"num_key_value_heads": 3}, "cannot share 3"),
        ({"architectures": None}, "'architectures'"),
        ({"architectures": []}, "'architectures' is empty"),
        ({"torch_dtype": "int8"}, "dtype 'int8' are not supported"),
        ({"eos_token_id": -1}, "eos_token_id"),
        ({"text_config": [1]}, "text_config must be an object"),
        ({"num_experts": 4, "num_experts_per_tok": 5, "moe_intermediate_size": 8}, "5 of 4 experts"),
        ({"sliding_window": 8, "layer_types": ["full_attention"]}, "'layer_types' lists 1 layers"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path, **changes)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_directory_and_a_missing_or_broken_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a directory"):
        ModelConfig.load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"no config\.json"):
        ModelConfig.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*config\.json"):
        ModelConfig.load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="must hold a JSON object"):
        ModelConfig.load(tmp_path)


def test_generation_config_comes_before_config_for_eos(tmp_path: Path) -> None:
    path = write(tmp_path, {**BASE, "eos_token_id": 7}, generation_config={"eos_token_id": [3, 9, 3]})
    assert ModelConfig.load(path).eos_token_ids == (3, 9)
    assert load(tmp_path / "other", eos_token_id=7).eos_token_ids == (7,)


def test_sampling_defaults_come_from_generation_config(tmp_path: Path) -> None:
    generation = {"temperature": 0.6, "top_p": 0.9, "top_k": 0, "repetition_penalty": 1.1, "max_length": 20}
    config = ModelConfig.load(write(tmp_path, generation_config=generation))
    assert config.generation_defaults == {"temperature": 0.6, "top_p": 0.9, "top_k": -1, "repetition_penalty": 1.1}


def test_do_sample_false_means_greedy(tmp_path: Path) -> None:
    config = ModelConfig.load(write(tmp_path, generation_config={"do_sample": False, "temperature": 0.6}))
    assert config.generation_defaults["temperature"] == 0.0


def test_a_sampling_default_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'top_p' must be a number"):
        ModelConfig.load(write(tmp_path, generation_config={"top_p": "high"}))


def test_windows_need_the_switch_where_there_is_one(tmp_path: Path) -> None:
    assert load(tmp_path, sliding_window=8).layer_windows == (8,) * 4
    assert load(tmp_path, sliding_window=8, use_sliding_window=False).layer_windows == (None,) * 4
    some = load(tmp_path, sliding_window=8, use_sliding_window=True, max_window_layers=2)
    assert some.layer_windows == (None, None, 8, 8)
    kinds = ["full_attention", "sliding_attention"] * 2
    assert load(tmp_path, sliding_window=8, layer_types=kinds).layer_windows == (None, 8, None, 8)


@pytest.mark.parametrize("key", ["num_experts", "num_local_experts"])
def test_experts_and_the_layers_that_have_them(key: str, tmp_path: Path) -> None:
    experts = {key: 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}
    config = load(tmp_path, **experts, decoder_sparse_step=2, mlp_only_layers=[3])
    assert config.moe == MoEConfig(
        num_experts=8, top_k=2, intermediate_size=24, norm_topk_prob=True, layers=frozenset({1})
    )


def test_sentence_transformers_modules_say_how_to_pool(tmp_path: Path) -> None:
    modules = [
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"},
    ]
    pooling = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}
    path = write(
        tmp_path, {**BASE, "matryoshka_dimensions": [8, 16]}, modules=modules, **{"1_Pooling__config": pooling}
    )
    config = ModelConfig.load(path)
    assert config.pooling == PoolingConfig(pooling="last", normalize=True)
    assert config.matryoshka_dimensions == (8, 16)
    assert config.is_matryoshka
    write(tmp_path, modules=modules[:2], **{"1_Pooling__config": {"pooling_mode": "mean"}})
    assert ModelConfig.load(tmp_path).pooling == PoolingConfig(pooling="mean", normalize=False)


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        ([{"type": "x.Dense"}], {}, "modules .*Dense.* are not supported"),
        ([{"type": "x.Pooling", "path": "1_Pooling"}], {"pooling_mode_max_tokens": True}, "exactly one of"),
        ([{"path": ""}], {}, "cannot read"),
    ],
)
def test_pooling_that_is_not_supported_is_refused(
    modules: list[dict[str, str]], pooling: dict[str, bool], message: str, tmp_path: Path
) -> None:
    write(tmp_path, modules=modules, **{"1_Pooling__config": pooling})
    with pytest.raises(ModelError, match=message):
        ModelConfig.load(tmp_path)


def test_quantised_weights_are_noted(tmp_path: Path) -> None:
    assert load(tmp_path, quantization_config={"quant_method": "fp8"}).quantization == {"quant_method": "fp8"}
    assert load(tmp_path).quantization is None


def test_reading_a_config_imports_no_torch() -> None:
    code = "import sys, hookline.config.model_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
