"""What the machine, the model or the sizes do not allow is told by term, plugin and choices, before weights load."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hookline.config.device import DeviceFacts
from hookline.config.resolve import resolve_engine
from hookline.config.sources import load_config
from hookline.errors import ConfigError, ResolutionError
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.spec import Requirements, Spec
from hookline.platform import create_platform
from hookline.plugins.context import Context, unmet
from hookline.plugins.manager import load_plugins
from hookline.plugins.resolve import resolve
from hookline_attention.plugin import hookline_attention_backends
from hookline_kernels.plugin import hookline_ops
from tests.factories.offers import registry_of

NO_GPU = DeviceFacts(has_cuda=False, reason="there is no NVIDIA driver")
OLD_GPU = DeviceFacts(has_cuda=True, capability=(7, 5), reason="a CUDA device is visible")


def start(facts: DeviceFacts, **keywords: Any) -> dict[str, Any]:
    """The settings that an engine for the demo would get."""
    config = load_config(environ={}, keywords=keywords).config
    return resolve_engine(config, load_plugins(config), for_server=False, device=facts).config_values


def test_a_missing_gpu_says_why_and_what_works() -> None:
    with pytest.raises(ConfigError, match=r"device is 'cuda', but there is no NVIDIA driver; use 'cpu' or 'auto'"):
        start(NO_GPU, device="cuda")
    assert start(NO_GPU)["execution"]["device"] == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device here")
def test_a_torch_without_devices_is_told_by_the_worker() -> None:
    with pytest.raises(ConfigError, match=r"torch finds no CUDA device here; use 'cpu' or 'auto'"):
        create_platform("cuda")


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        (
            {"attention_backend": "triton"},
            ["attention_backends 'triton' of hookline-attention", "needs compute capability 8.0, the device has 7.5",
             "what fits: torch_native", "a GPU of compute capability 8.0 or newer"],
        ),
        ({"ops": ["triton"]}, ["ops 'triton' of hookline-kernels", "compute capability 8.0", "what fits: torch"]),
    ],
)  # fmt: skip
def test_a_gpu_too_old_for_a_named_plugin_is_told(keywords: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ResolutionError) as error:
        start(OLD_GPU, **keywords)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_gpu_too_old_for_the_fast_plugins_gets_the_others() -> None:
    values = start(OLD_GPU)
    assert values["attention"]["attention_backend"] == "torch_native"
    assert values["execution"]["ops"] == ["torch"]


def narrow(**requires: Any) -> AttentionBackendSpec:
    return AttentionBackendSpec(name="narrow", target="a:b", requires=Requirements(**requires))


TERMS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "head dim": (
        {"head_dims": frozenset({64, 128})},
        ["handles head dimension 64 or 128, the model has 80", "a model with head dimension 64 or 128"],
    ),
    "dtype": (
        {"dtypes": frozenset({"bfloat16", "float16"})},
        ["computes in bfloat16 or float16, the dtype is float32", "--dtype bfloat16 or float16"],
    ),
    "page size": (
        {"page_sizes": frozenset({16, 64})},
        ["handles page size 16 or 64, cache.page_size is 1", "--page-size 16 or 64, or auto"],
    ),
    "package": (
        {"packages": ("no-such-compiler>=2",)},
        ["needs the package no-such-compiler>=2, which is not installed", "pip install 'no-such-compiler>=2'"],
    ),
}


@pytest.mark.parametrize("term", TERMS)
def test_what_a_backend_cannot_take_is_told_with_what_it_can(term: str) -> None:
    requires, words = TERMS[term]
    context = Context(device="cuda", capability=(9, 0), dtype="float32", head_dim=80, config={"cache.page_size": 1})
    registry = registry_of(narrow(**requires), AttentionBackendSpec(name="wide", target="a:b"))
    with pytest.raises(ResolutionError) as error:
        resolve(registry, "attention_backends", "narrow", context)
    for word in ("attention_backends 'narrow' of fake-mine 1.0", "what fits: wide", *words):
        assert word in str(error.value), str(error.value)


@pytest.mark.parametrize("spec", [*hookline_attention_backends(), *hookline_ops()], ids=lambda spec: spec.name)
def test_shipped_plugins_fit_a_hopper_gpu_or_miss_a_package(spec: Spec) -> None:
    context = Context(device="cuda", capability=(9, 0), dtype="bfloat16", head_dim=128, config={"cache.page_size": 16})
    assert all("package" in reason for reason in unmet(spec.requires, context))


def test_a_chunk_that_is_no_number_of_pages_names_one_that_is() -> None:
    with pytest.raises(ConfigError, match=r"must be a multiple of cache.page_size \(16\), like 96"):
        start(NO_GPU, page_size=16, chunked_prefill_size=100)
