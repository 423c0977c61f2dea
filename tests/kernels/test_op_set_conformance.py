"""The shipped op sets pass the suite that plugin authors use."""

from __future__ import annotations

import pytest
import torch

from hookline.layers.ops import OPS
from hookline.testkit.op_cases import OP_CASES
from hookline.testkit.ops import OpSetSuite

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class TestTorch(OpSetSuite):
    name = "torch"


@pytest.mark.gpu
@NEEDS_CUDA
class TestTorchOnCuda(OpSetSuite):
    name = "torch"
    device_type = "cuda"


@pytest.mark.gpu
@NEEDS_CUDA
class TestTriton(OpSetSuite):
    name = "triton"


def test_the_suite_knows_every_op() -> None:
    assert set(OP_CASES) == set(OPS)
    assert all("odd sizes" in cases for cases in OP_CASES.values())
