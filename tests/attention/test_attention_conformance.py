"""The shipped backends pass the suite that plugin authors use, and so does one with every feature."""

from __future__ import annotations

import pytest
import torch

from hookline.interfaces.attention import AttentionBackendSpec
from hookline.testkit.attention import AttentionSuite
from tests.factories.dense_attention import FEATURES, DenseAttention

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DENSE = AttentionBackendSpec(
    name="dense",
    target=f"{DenseAttention.__module__}:{DenseAttention.__name__}",
    features=FEATURES,
    summary="every feature, no speed",
)


class TestTorchNative(AttentionSuite):
    name = "torch_native"


class TestEveryFeature(AttentionSuite):
    spec = DENSE


@pytest.mark.gpu
@NEEDS_CUDA
class TestTorchNativeOnCuda(AttentionSuite):
    name = "torch_native"
    device_type = "cuda"


@pytest.mark.gpu
@NEEDS_CUDA
class TestTriton(AttentionSuite):
    name = "triton"


@pytest.mark.gpu
@NEEDS_CUDA
class TestEveryFeatureOnCuda(AttentionSuite):
    spec = DENSE
    device_type = "cuda"


def test_the_suite_confirms_every_feature_of_the_contract() -> None:
    assert set(AttentionSuite.confirms) == set(AttentionBackendSpec.known_features) == FEATURES
