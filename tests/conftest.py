"""Settings for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.factories.released import MEMBERS, ROOT, ReleasedEnvironment, build_wheels, link_third_party

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
def released_core(tmp_path_factory: pytest.TempPathFactory) -> ReleasedEnvironment:
    """An environment with core alone, and wheels of everything, made once; copy it, do not install into it."""
    place = tmp_path_factory.mktemp("released")
    build_wheels([ROOT, *MEMBERS], place / "wheels")
    third_party = link_third_party(place / "third-party")
    return ReleasedEnvironment.create(place / "venv", place / "wheels", third_party, "hookline-core")


@pytest.fixture(scope="session")
def released(released_core: ReleasedEnvironment, tmp_path_factory: pytest.TempPathFactory) -> ReleasedEnvironment:
    """The same with all of Hookline."""
    environment = released_core.copy(tmp_path_factory.mktemp("all") / "venv")
    environment.install("hookline")
    return environment
