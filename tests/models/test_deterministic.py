"""With ``deterministic`` a request's logits have the same bits in any batch, chunking and cache state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.factories.adapters import make_adapter
from tests.factories.checkpoints import FAMILIES, make_checkpoint
from tests.models.harness import ModelHarness
from tests.models.test_parity import prompts


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_do_not_depend_on_the_batch_or_the_chunks(checkpoint: Path, dtype: torch.dtype) -> None:
    batch = prompts([33, 5, 20])
    together = ModelHarness.load(checkpoint, dtype=dtype, deterministic=True).step(batch, all_logits=True)
    for name, ids in batch.items():
        harness = ModelHarness.load(checkpoint, dtype=dtype, deterministic=True)
        alone = harness.step({"alone": ids}, all_logits=True)["alone"]
        assert torch.equal(alone, together[name])
        for chunk in (1, 7):
            parts = [
                harness.step({f"chunks of {chunk}": ids[start : start + chunk]}, all_logits=True)
                for start in range(0, len(ids), chunk)
            ]
            assert torch.equal(torch.cat([next(iter(part.values())) for part in parts]), together[name])


def test_adapters_do_not_change_that(checkpoint: Path, tmp_path: Path) -> None:
    adapter = make_adapter(checkpoint, tmp_path / "a", target_modules=["q_proj", "o_proj"])
    batch = prompts([9, 5, 20])

    def harness() -> ModelHarness:
        made = ModelHarness.load(checkpoint, deterministic=True, max_adapters=1)
        assert made.lora is not None
        made.lora.load(1, "a", adapter)
        made.adapters = {"r0": 1, "r2": 1}
        return made

    together = harness().step(batch, all_logits=True)
    for name, ids in batch.items():
        assert torch.equal(harness().step({name: ids}, all_logits=True)[name], together[name])
