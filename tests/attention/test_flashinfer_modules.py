"""Which modules FlashInfer is asked to compile ahead, and where the package comes from."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hookline.config.model_config import ModelConfig
from hookline.errors import ConfigError
from hookline.interfaces.prebuild import PrebuildEnv
from hookline_attention.flashinfer_attention.library import load_flashinfer
from hookline_attention.flashinfer_attention.modules import kernel_builds
from hookline_attention.options import AttentionOptions
from tests.factories.checkpoints import make_checkpoint


class FakeSpec:
    """What FlashInfer gives for a module."""

    def __init__(self, *what: Any) -> None:
        self.what = what
        self.is_compiled = "window" in what

    def build(self, verbose: bool) -> None:
        assert not verbose
        BUILT.append(self.what)


BUILT: list[tuple[Any, ...]] = []


def prefill_module(
    backend: str,
    dtype_q: Any,
    dtype_kv: Any,
    dtype_o: Any,
    dtype_idx: Any,
    head_dim_qk: int,
    head_dim_vo: int,
    pos_encoding_mode: int,
    use_sliding_window: bool,
    use_logits_soft_cap: bool,
    use_fp16_qk_reduction: bool,
) -> FakeSpec:
    assert (dtype_q, dtype_kv, dtype_o, dtype_idx) == (torch.float16, torch.float16, torch.float16, torch.int32)
    assert (pos_encoding_mode, use_logits_soft_cap, use_fp16_qk_reduction) == (0, False, False)
    return FakeSpec(backend, head_dim_qk, head_dim_vo, *(["window"] if use_sliding_window else []))


def decode_module(*arguments: Any) -> FakeSpec:
    *types_and_dims, position_mode, window, softcap = arguments
    assert types_and_dims == [torch.float16, torch.float16, torch.float16, torch.int32, 64, 64]
    assert (position_mode, softcap) == (0, False)
    return FakeSpec("decode", *(["window"] if window else []))


@pytest.fixture(autouse=True)
def fake_jit(monkeypatch: pytest.MonkeyPatch) -> None:
    jit = types.SimpleNamespace(gen_batch_prefill_module=prefill_module, gen_batch_decode_module=decode_module)
    monkeypatch.setitem(sys.modules, "flashinfer", types.ModuleType("flashinfer"))
    monkeypatch.setitem(sys.modules, "flashinfer.jit", jit)
    BUILT.clear()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    loaded = ModelConfig.load(make_checkpoint(tmp_path_factory.mktemp("modules") / "qwen3"))
    return replace(loaded, head_dim=64, num_q_heads=4, num_kv_heads=2, layer_windows=(None, None))


def env(model: ModelConfig, **options: Any) -> PrebuildEnv:
    return PrebuildEnv(
        model=model,
        device=torch.device("cpu"),
        dtype=torch.float16,
        page_size=1,
        options=AttentionOptions(**options),
    )


def names(model: ModelConfig, **options: Any) -> list[str]:
    return [build.name for build in kernel_builds(env(model, **options))]


def test_modules_are_those_that_the_backend_will_plan_with(model: ModelConfig) -> None:
    assert names(model) == ["prefill fa2, head dim 64", "decode, head dim 64"]
    assert names(model, flashinfer_decode_kernel="tensor_cores") == ["prefill fa2, head dim 64"]
    many_heads = replace(model, num_q_heads=16)
    assert names(many_heads) == ["prefill fa2, head dim 64"]


def test_on_hopper_prefills_have_a_module_of_their_own(model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    on_hopper = replace(env(replace(model, num_q_heads=16)), device=torch.device("cuda"))
    assert [build.name for build in kernel_builds(on_hopper)] == [
        "prefill fa3, head dim 64",
        "prefill fa2, head dim 64",
    ]


def test_windows_of_layers_are_modules_too(model: ModelConfig) -> None:
    both = replace(model, layer_windows=(None, 128))
    builds = kernel_builds(env(both))
    assert [(build.name, build.is_cached) for build in builds] == [
        ("prefill fa2, head dim 64", False),
        ("decode, head dim 64", False),
        ("prefill fa2, head dim 64, window", True),
        ("decode, head dim 64, window", True),
    ]
    builds[2].build()
    assert BUILT == [("fa2", 64, 64, "window")]


def test_the_cache_is_placed_before_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHINFER_WORKSPACE_BASE", "elsewhere")
    load_flashinfer(None)
    # It is imported already: its cache has a place.
    load_flashinfer(str(tmp_path))
    assert os.environ["FLASHINFER_WORKSPACE_BASE"] == "elsewhere"
    monkeypatch.delitem(sys.modules, "flashinfer")
    with pytest.raises(ConfigError):
        load_flashinfer(str(tmp_path), "flashinfer_is_not_here")
    assert os.environ["FLASHINFER_WORKSPACE_BASE"] == str(tmp_path)
