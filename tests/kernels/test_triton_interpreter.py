"""The Triton op set in Triton's interpreter, where bfloat16 products are wrong and are left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hookline.interfaces.spec import Requirements
from hookline.testkit.ops import OpSetSuite
from hookline_kernels.plugin import hookline_ops

(TRITON,) = (spec for spec in hookline_ops() if spec.name == "triton")


# numpy warns of what a GPU computes in silence: exponentials that overflow, and values that are not finite.
@pytest.mark.filterwarnings("ignore:(overflow|invalid value|All-NaN slice) encountered:RuntimeWarning")
@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the GPU here")
class TestTritonInterpreted(OpSetSuite):
    device_type = "cpu"
    spec = replace(TRITON, requires=Requirements(dtypes=frozenset({"float32", "float16"})))
