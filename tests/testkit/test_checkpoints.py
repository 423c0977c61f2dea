"""Small checkpoints: any architecture, ready to be served, and nothing in them that would hide a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from hookline import Engine, SamplingParams
from hookline.config.model_config import ModelConfig
from hookline.testkit.checkpoints import VOCAB_SIZE, main, random_model, write_small_checkpoint


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Olmo2ForCausalLM", "GraniteForCausalLM"])
def test_an_architecture_of_transformers(architecture: str, tmp_path: Path) -> None:
    config = ModelConfig.load(write_small_checkpoint(tmp_path, architecture=architecture))
    assert config.architectures == (architecture,)
    assert (config.hidden_size, config.num_layers, config.vocab_size) == (64, 3, VOCAB_SIZE)


def test_no_parameter_is_left_where_leaving_it_out_changes_nothing(tmp_path: Path) -> None:
    """Norms of 1 and biases of 0 would hide that a model forgets them."""
    write_small_checkpoint(tmp_path, hf_config={"attention_bias": True})
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        assert tensor.std() > 0.1, name


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    paths = [write_small_checkpoint(tmp_path / str(index), seed=seed) for index, seed in enumerate((3, 3, 4))]
    weights = [(path / "model.safetensors").read_bytes() for path in paths]
    assert weights[0] == weights[1] != weights[2]


def test_an_architecture_that_nobody_has_is_laid_out_like_llama(tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path, architecture="MineForCausalLM")
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["MineForCausalLM"]
    names = set(random_model("LlamaForCausalLM").state_dict())
    assert set(load_file(tmp_path / "model.safetensors")) == names


def test_an_engine_chats_with_it(tmp_path: Path) -> None:
    with Engine(write_small_checkpoint(tmp_path), device="cpu") as engine:
        answer = engine.chat([{"role": "user", "content": "Say it."}], SamplingParams(max_new_tokens=4))
    assert answer.output.usage.completion_tokens <= 4


def test_the_program_writes_what_the_function_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path / "program"), "--architecture", "MineForCausalLM", "--like", "Qwen3ForCausalLM"])
    assert "MineForCausalLM" in capsys.readouterr().out
    written = write_small_checkpoint(tmp_path / "function", architecture="MineForCausalLM", like="Qwen3ForCausalLM")
    for file in sorted(written.iterdir()):
        assert (tmp_path / "program" / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_layout_that_nobody_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--like", "NoSuchForCausalLM"])
    assert "has no class 'NoSuchForCausalLM'; give one that it has" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "file")])
    assert "file" in capsys.readouterr().err
