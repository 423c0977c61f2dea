"""The Triton backend in Triton's interpreter: all that it declares but what the interpreter cannot show.

bfloat16 products are wrong there, and numpy's products depend on the number of rows, which deterministic sums must
not. Both are tested on a GPU (test_attention_conformance.py).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hookline.interfaces.spec import Requirements
from hookline.testkit.attention import AttentionSuite
from hookline_attention.plugin import hookline_attention_backends

(TRITON,) = (spec for spec in hookline_attention_backends() if spec.name == "triton")


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles for the GPU here")
class TestTritonInterpreted(AttentionSuite):
    device_type = "cpu"
    spec = replace(
        TRITON,
        requires=Requirements(dtypes=frozenset({"float32", "float16"})),
        features=TRITON.features - {"deterministic"},
    )
