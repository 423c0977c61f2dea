"""The testkit's adapters are what peft takes for one of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hookline.testkit.adapters import Adapter
from tests.factories.adapters import load_base, merged_model
from tests.factories.checkpoints import make_checkpoint

MODULES = {"model.layers.0.self_attn.q_proj": (64, 64), "model.layers.1.mlp.up_proj": (96, 64)}


@pytest.mark.parametrize("use_rslora", [False, True])
def test_peft_merges_what_delta_says(use_rslora: bool, tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", "llama")
    ranks = {"model.layers.1.mlp.up_proj": 3}
    adapter = Adapter.random(MODULES, rank=5, ranks=ranks, alpha=7, use_rslora=use_rslora)
    merged = merged_model(base, adapter.save(tmp_path / "adapter"))
    before = load_base(base).get_submodule
    for module in MODULES:
        change = merged.get_submodule(module).state_dict()["weight"] - before(module).state_dict()["weight"]
        torch.testing.assert_close(change, adapter.delta(module), atol=1e-5, rtol=0)
