"""The conformance suite of attention backends, for both values of the option."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from hookline.batch.forward_batch import MaskKind
from hookline.testkit.attention import AttentionSuite


class TestSdpa(AttentionSuite):
    name = "sdpa"

    def test_a_tree_mask_is_refused(self) -> None:
        with pytest.raises(ValueError, match="tree"):
            self.run(self.case([(0, 30)], mask=MaskKind.TREE))


class TestSdpaWithExpandedHeads(AttentionSuite):
    name = "sdpa"
    options: ClassVar = {"expand_heads": True}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestSdpaOnCuda(AttentionSuite):
    name = "sdpa"
    device_type = "cuda"
