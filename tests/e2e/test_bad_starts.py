"""Starts that cannot work: each ends at once, with one clear sentence and no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookline import Engine
from hookline.errors import HooklineError
from tests.factories.demo_server import hookline

CheckpointMaker = Callable[[str], Path]


def broken_copy(source: Path, target: Path, change: Callable[[Path], object]) -> Path:
    shutil.copytree(source, target)
    change(target)
    return target


def edit_config(**changes: object) -> Callable[[Path], object]:
    def edit(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def truncate_weights(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda path: (path / "config.json").unlink(), "config.json"),
    "broken config": (lambda path: (path / "config.json").write_text("{"), "config.json"),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), "tokenizer"),
    "unknown architecture": (edit_config(architectures=["Qwen3ForCausaLM"]), "Qwen3ForCausalLM"),
    "corrupt weights": (truncate_weights, "model.safetensors"),
    "missing weights": (lambda path: (path / "model.safetensors").unlink(), "safetensors"),
    "misshapen weights": (edit_config(intermediate_size=100), "shape"),
    "more layers than weights": (edit_config(num_hidden_layers=4), "layers.3"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_says_what_is_wrong(name: str, checkpoint: CheckpointMaker, tmp_path: Path) -> None:
    change, word = BROKEN[name]
    path = broken_copy(checkpoint("qwen3"), tmp_path / "copy", change)
    with pytest.raises(HooklineError, match=word):
        Engine(path)


def test_a_path_that_is_not_there_is_told() -> None:
    with pytest.raises(HooklineError, match="/no/such/model"):
        Engine("/no/such/model")


def test_an_unknown_setting_names_the_near_one() -> None:
    with pytest.raises(HooklineError, match="max_model_len"):
        Engine("demo", max_model_length=5)


def test_a_cache_too_small_for_anything_is_refused(checkpoint: CheckpointMaker) -> None:
    with pytest.raises(HooklineError, match="kv_cache"):
        Engine(checkpoint("qwen3"), kv_cache_gib=1e-8)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["serve", "/no/such/model"], "/no/such/model"),
        (["serve", "--attention-backend", "torch_nativ"], "torch_native"),
        (["serve", "--set", "cache.page_sice=16"], "page_size"),
        (["serve", "--port", "many"], "port"),
        (["serv"], "serve"),
        (["generate"], "--prompt"),
    ],
)
def test_a_wrong_command_line_ends_with_one_sentence(arguments: list[str], word: str) -> None:
    ended = hookline(*arguments)
    assert ended.returncode != 0
    assert word in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("setting", "wrong", "near"),
    [("tool_call_parser", "qwen2", "qwen25"), ("reasoning_parser", "qwn3", "qwen3")],
)
def test_an_unknown_parser_is_named_with_the_nearest(setting: str, wrong: str, near: str) -> None:
    settings: dict[str, Any] = {setting: wrong}
    with pytest.raises(HooklineError, match=rf"{setting}: unknown .* '{wrong}'; did you mean '{near}'\? \(known: "):
        Engine(None, **settings)
