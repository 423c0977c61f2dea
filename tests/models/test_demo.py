"""The shipped checkpoint, in the published layout and bfloat16, against transformers in float32."""

from __future__ import annotations

from pathlib import Path

import torch

import hookline_demo
from hookline.testkit.model_harness import ModelHarness
from hookline.testkit.models import prompts
from hookline.testkit.reference_model import ReferenceModel

CHECKPOINT = Path(hookline_demo.__file__).parent / "checkpoint"
STEPS = 64


def test_the_demo_agrees_with_transformers() -> None:
    reference = ReferenceModel(CHECKPOINT, "Qwen3VLMoeForConditionalGeneration")
    harness = ModelHarness.load(CHECKPOINT)
    batch = prompts((70, 1, 33))
    got = harness.step(batch, all_logits=True)
    for name, ids in batch.items():
        torch.testing.assert_close(got[name], reference.logits(ids), atol=1e-4, rtol=0)
    harness = ModelHarness.load(CHECKPOINT)
    output = harness.greedy(batch, STEPS, chunk=16)
    for name, ids in batch.items():
        assert output[name] == reference.logits(ids + output[name])[len(ids) - 1 : -1].argmax(-1).tolist()
