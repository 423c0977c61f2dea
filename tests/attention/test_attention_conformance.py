"""The shipped backends pass the suite that plugin authors use, and so does one with every feature."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from hookline.interfaces.attention import AttentionBackendSpec
from hookline.testkit.attention import AttentionSuite
from hookline_attention.options import AttentionOptions
from hookline_attention.plugin import hookline_attention_backends
from tests.factories.dense_attention import FEATURES, DenseAttention

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
NEEDS_FLASHINFER = pytest.mark.skipif(
    importlib.util.find_spec("flashinfer") is None, reason="needs the package flashinfer-python"
)
(FLASHINFER,) = (spec for spec in hookline_attention_backends() if spec.name == "flashinfer")
FLASHINFER_OPTIONS = frozenset(name for name in AttentionOptions.model_fields if name.startswith("flashinfer_"))
DENSE = AttentionBackendSpec(
    name="dense",
    target=f"{DenseAttention.__module__}:{DenseAttention.__name__}",
    features=FEATURES,
    summary="every feature, no speed",
)


class TestTorchNative(AttentionSuite):
    name = "torch_native"
    idle_options = FLASHINFER_OPTIONS


class TestEveryFeature(AttentionSuite):
    spec = DENSE


@pytest.mark.gpu
@NEEDS_CUDA
class TestTorchNativeOnCuda(AttentionSuite):
    name = "torch_native"
    device_type = "cuda"
    idle_options = FLASHINFER_OPTIONS


@pytest.mark.gpu
@NEEDS_CUDA
class TestTriton(AttentionSuite):
    name = "triton"
    idle_options = FLASHINFER_OPTIONS


@pytest.mark.gpu
@NEEDS_CUDA
@NEEDS_FLASHINFER
class TestFlashInferForQwen3(AttentionSuite):
    """What the shapes of Qwen3 need: three modules to compile. All others take minutes."""

    spec = replace(
        FLASHINFER,
        requires=replace(FLASHINFER.requires, dtypes=frozenset({"bfloat16"}), head_dims=frozenset({128})),
        features=FLASHINFER.features - {"mask.window", "softcap"},
    )
    equal_head_dims = True


@pytest.mark.gpu
@pytest.mark.slow
@NEEDS_CUDA
@NEEDS_FLASHINFER
class TestFlashInfer(AttentionSuite):
    """fa3 for prefills on Hopper; decodes without tensor cores up to 3 query heads a key-value head."""

    name = "flashinfer"
    equal_head_dims = True


@pytest.mark.gpu
@pytest.mark.slow
@NEEDS_CUDA
@NEEDS_FLASHINFER
class TestFlashInferOtherKernels(AttentionSuite):
    name = "flashinfer"
    equal_head_dims = True
    options: ClassVar = {"flashinfer_prefill_kernel": "fa2", "flashinfer_decode_kernel": "tensor_cores"}


@pytest.mark.gpu
@NEEDS_CUDA
class TestEveryFeatureOnCuda(AttentionSuite):
    spec = DENSE
    device_type = "cuda"


def test_the_suite_confirms_every_feature_of_the_contract() -> None:
    assert set(AttentionSuite.confirms) == set(AttentionBackendSpec.known_features) == FEATURES
