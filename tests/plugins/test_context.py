"""Requirements against facts: one readable reason for each that does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hookline.interfaces.spec import Requirements
from hookline.plugins.context import Context, find_unmet, unmet

CPU = Context(device="cpu", dtype="float32", head_dim=64, config={"cache.page_size": 16, "execution.seed": 3})
GPU = Context(device="cuda", capability=(8, 0), dtype="bfloat16", head_dim=128)


@pytest.mark.parametrize(
    ("fields", "context", "reason"),
    [
        ({"devices": frozenset({"cuda"})}, CPU, "runs on cuda, the device is cpu"),
        ({"min_capability": (9, 0)}, GPU, "needs compute capability 9.0, the device has 8.0"),
        ({"min_capability": (9, 0)}, Context(device="cuda"), "needs compute capability 9.0, that of the device is"),
        ({"dtypes": frozenset({"float16", "bfloat16"})}, CPU, "computes in bfloat16 or float16, the dtype is float32"),
        ({"head_dims": frozenset({128, 256})}, CPU, "handles head dimension 128 or 256, the model has 64"),
        ({"page_sizes": frozenset({1})}, CPU, "handles page size 1, cache.page_size is 16"),
        ({"config": {"execution.seed": 4}}, CPU, "needs execution.seed = 4, it is 3"),
        ({"config": {"cache.nothing": 4}}, CPU, "needs cache.nothing = 4, but there is no such setting"),
        ({"packages": ("no-such-package>=2",)}, CPU, "needs the package no-such-package>=2, which is not installed"),
        ({"packages": ("pluggy<1",)}, CPU, "needs the package pluggy<1, installed is 1."),
        ({"programs": {"no-such-program": ""}}, CPU, "needs the program no-such-program, which is neither on PATH nor"),
    ],
)
def test_unmet_requirement_says_what_is_needed_and_what_is(
    fields: dict[str, Any], context: Context, reason: str
) -> None:
    (given,) = unmet(Requirements(**fields), context)
    assert given.startswith(reason)


@pytest.mark.parametrize(
    ("fields", "context"),
    [
        ({}, CPU),
        ({"devices": frozenset({"cuda"})}, GPU),
        ({"min_capability": (8, 0)}, GPU),
        # A capability says nothing on another device.
        ({"min_capability": (9, 0)}, CPU),
        ({"packages": ("pluggy>=1", "no-such-package; python_version < '3'")}, CPU),
        ({"programs": {"sh": "", "no-such-program": "pluggy>=1"}}, CPU),
        ({"config": {"cache.page_size": 16}, "page_sizes": frozenset({1, 16})}, CPU),
        # What is not known, or still "auto", refuses nobody.
        ({"dtypes": frozenset({"float16"}), "head_dims": frozenset({3}), "devices": frozenset({"x"})}, Context()),
        ({"config": {"cache.page_size": 1}, "page_sizes": frozenset({1})}, Context(config={"cache.page_size": "auto"})),
    ],
)
def test_met_requirements_give_no_reason(fields: dict[str, Any], context: Context) -> None:
    assert unmet(Requirements(**fields), context) == []


def test_programs_are_looked_for_where_cuda_keeps_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requires = Requirements(programs={"no-such-nvcc": "no-such-package>=1"})
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    (missing,) = find_unmet(requires, GPU)
    assert missing.reason == (
        f"needs the program no-such-nvcc, which is neither on PATH nor in {tmp_path}/bin or /usr/local/cuda/bin, or "
        "the package no-such-package>=1"
    )
    assert missing.remedy == "install no-such-nvcc, or pip install 'no-such-package>=1'"
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "no-such-nvcc"
    program.touch(mode=0o755)
    assert find_unmet(requires, GPU) == []


def test_every_unmet_line_is_its_own_reason() -> None:
    requires = Requirements(devices=frozenset({"cuda"}), dtypes=frozenset({"float16"}), head_dims=frozenset({8}))
    assert len(unmet(requires, CPU)) == 3
