"""When flashinfer is chosen, and what is said when it cannot be."""

from __future__ import annotations

import importlib.metadata
import shutil
from typing import Any

import pytest

from hookline.errors import ResolutionError
from hookline.plugins.context import Context
from hookline.plugins.manager import load_plugins
from hookline.plugins.registry import Registry
from hookline.plugins.resolve import Wish, resolve, resolve_wish

HOPPER = Context(device="cuda", capability=(9, 0), dtype="bfloat16", head_dim=128)
KIND = "attention_backends"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_plugins(strict=False)


@pytest.fixture
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A machine with the package and the compilers, from which the test takes away what it names."""
    missing: set[str] = set()
    version, which = importlib.metadata.version, shutil.which

    def fake_version(name: str) -> str:
        if name in missing or name == "flashinfer-jit-cache":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.6.12" if name == "flashinfer-python" else version(name)

    def fake_which(name: str, *args: Any, **kwargs: Any) -> str | None:
        if name in ("nvcc", "ninja"):
            return None if name in missing else f"/usr/bin/{name}"
        return which(name, *args, **kwargs)

    monkeypatch.setattr(importlib.metadata, "version", fake_version)
    monkeypatch.setattr(shutil, "which", fake_which)
    return missing


def refusal(registry: Registry, context: Context) -> str:
    with pytest.raises(ResolutionError) as info:
        resolve(registry, KIND, "flashinfer", context)
    return str(info.value)


def test_by_name_it_is_chosen_where_it_runs(registry: Registry, everything_installed: set[str]) -> None:
    assert resolve(registry, KIND, "flashinfer", HOPPER).names == ("flashinfer",)


def test_auto_prefers_what_needs_no_compiler(registry: Registry, everything_installed: set[str]) -> None:
    answer = resolve(registry, KIND, "auto", HOPPER)
    assert answer.names == ("triton",)
    assert [offer.spec.name for offer in answer.spare] == ["flashinfer", "torch_native"]
    assert answer.reason == "the best that fits, by priority"


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("flashinfer-python", "needs the package flashinfer-python<0.7,>=0.6.12, which is not installed"),
        ("nvcc", "needs the program nvcc, which is neither on PATH nor in "),
        ("ninja", "needs the program ninja, which is neither on PATH nor in "),
    ],
)
def test_what_is_missing_is_named_with_what_works(
    registry: Registry, everything_installed: set[str], missing: str, reason: str
) -> None:
    everything_installed.add(missing)
    said = refusal(registry, HOPPER)
    assert reason in said
    assert "; what fits: triton, torch_native; 'flashinfer' takes " in said
    assert resolve(registry, KIND, "auto", HOPPER).names == ("triton",)


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        ({"capability": (7, 5)}, "needs compute capability 8.0, the device has 7.5"),
        ({"dtype": "float32"}, "computes in bfloat16 or float16, the dtype is float32"),
        ({"head_dim": 80}, "handles head dimension 64 or 128 or 256, the model has 80"),
        ({"config": {"cache.page_size": 8}}, "handles page size 1 or 16 or 64, cache.page_size is 8"),
    ],
)
def test_a_model_or_a_device_that_it_does_not_take(
    registry: Registry, everything_installed: set[str], fact: dict[str, Any], reason: str
) -> None:
    facts: dict[str, Any] = {"device": "cuda", "capability": (9, 0), "dtype": "bfloat16", "head_dim": 128, **fact}
    assert reason in refusal(registry, Context(**facts))


def test_the_deterministic_mode_is_not_its_own(registry: Registry, everything_installed: set[str]) -> None:
    wish = Wish(kind=KIND, names=("flashinfer",), features={"deterministic": "execution.deterministic"})
    with pytest.raises(ResolutionError, match=r"does not support 'deterministic', which execution\.det"):
        resolve_wish(registry, wish, HOPPER)
