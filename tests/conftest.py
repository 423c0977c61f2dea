"""Settings for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.factories.released import Release, ReleasedEnvironment

# Two threads at most: test machines are small, and results must not depend on the number of cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Two busy OpenMP teams on two cores wait for each other far longer than they compute.
os.environ.setdefault("HOOKLINE__EXECUTION__CPU_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Without a GPU, kernels in Triton run in its interpreter. Read when a kernel's module is imported.
if not Path("/proc/driver/nvidia/version").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# `make test` draws the same examples every time; `make test-all` draws new ones.
settings.register_profile("seeded", derandomize=True)
settings.register_profile("random")
# Broken implementations are only to be caught.
settings.register_profile("unshrunk", derandomize=True, phases=(Phase.explicit, Phase.generate))
settings.load_profile("seeded")


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Wheels of core, all members and the meta-distribution."""
    return Release.make(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="session")
def released_core(release: Release, tmp_path_factory: pytest.TempPathFactory) -> ReleasedEnvironment:
    """An environment with core alone; copy it, do not install into it."""
    return ReleasedEnvironment.create(tmp_path_factory.mktemp("core") / "venv", release, "hookline-core")


@pytest.fixture(scope="session")
def released(release: Release, tmp_path_factory: pytest.TempPathFactory) -> ReleasedEnvironment:
    """An environment with all of Hookline; copy it, do not install into it."""
    return ReleasedEnvironment.create(tmp_path_factory.mktemp("all") / "venv", release, "hookline")
