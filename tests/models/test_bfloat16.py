"""Half precision costs what rounding costs."""

from __future__ import annotations

from pathlib import Path

import torch

from hookline.testkit.model_harness import ModelHarness
from hookline.testkit.models import prompts
from tests.factories.checkpoints import make_checkpoint


def test_bfloat16_stays_close_to_float32(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "qwen3", initializer_range=0.05)
    (ids,) = prompts([20]).values()
    exact = ModelHarness.load(tmp_path).step({"r": ids}, all_logits=True)["r"]
    rounded = ModelHarness.load(tmp_path, dtype=torch.bfloat16).step({"r": ids}, all_logits=True)["r"]
    cosine = torch.nn.functional.cosine_similarity(exact, rounded, dim=-1)
    assert cosine.min() > 0.999
