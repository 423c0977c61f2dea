"""Each family against transformers in float32: prefill logits and greedy tokens, however the pass is cut."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import transformers

from tests.factories.checkpoints import FAMILIES, VOCAB_SIZE, make_checkpoint
from tests.models.harness import ModelHarness

STEPS = 64
LENGTHS = (1, 5, 16, 33)


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Callable[[Sequence[int]], torch.Tensor]:
    return load_reference(checkpoint)


def load_reference(path: Path) -> Callable[[Sequence[int]], torch.Tensor]:
    """ids -> logits [n, V] of transformers."""
    config = transformers.AutoConfig.from_pretrained(path)
    auto = (
        transformers.AutoModelForImageTextToText
        if "VL" in config.architectures[0]
        else transformers.AutoModelForCausalLM
    )
    model = auto.from_pretrained(path, dtype=torch.float32).eval()

    @torch.inference_mode()
    def logits(ids: Sequence[int]) -> torch.Tensor:
        return model(input_ids=torch.tensor([list(ids)])).logits[0].float()

    return logits


def prompts(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> dict[str, list[int]]:
    rng = random.Random(seed)
    return {f"r{i}": [rng.randrange(5, VOCAB_SIZE) for _ in range(n)] for i, n in enumerate(lengths)}


def test_prefill_logits_of_a_batch(checkpoint: Path, reference: Callable[[Sequence[int]], torch.Tensor]) -> None:
    batch = prompts()
    got = ModelHarness.load(checkpoint).step(batch, all_logits=True)
    for name, ids in batch.items():
        torch.testing.assert_close(got[name], reference(ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("chunk", [1, 7, 16])
def test_prefill_logits_in_chunks(
    chunk: int, checkpoint: Path, reference: Callable[[Sequence[int]], torch.Tensor]
) -> None:
    (ids,) = prompts([33]).values()
    harness = ModelHarness.load(checkpoint)
    parts = [
        harness.step({"r": ids[start : start + chunk]}, all_logits=True)["r"] for start in range(0, len(ids), chunk)
    ]
    torch.testing.assert_close(torch.cat(parts), reference(ids), atol=1e-4, rtol=0)


def test_logits_of_a_pass_that_mixes_extends_and_decodes(
    checkpoint: Path, reference: Callable[[Sequence[int]], torch.Tensor]
) -> None:
    batch = prompts([20, 9, 14])
    harness = ModelHarness.load(checkpoint)
    harness.step({"r0": batch["r0"][:19], "r1": batch["r1"][:4]})
    got = harness.step({"r1": batch["r1"][4:], "r2": batch["r2"], "r0": batch["r0"][19:]})
    for name, ids in batch.items():
        torch.testing.assert_close(got[name], reference(ids)[-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("chunk", [None, 8])
def test_greedy_tokens(chunk: int | None, checkpoint: Path, reference: Callable[[Sequence[int]], torch.Tensor]) -> None:
    batch = prompts()
    output = ModelHarness.load(checkpoint).greedy(batch, STEPS, chunk=chunk)
    for name, ids in batch.items():
        expected = reference(ids + output[name])[len(ids) - 1 : -1].argmax(-1).tolist()
        assert output[name] == expected
