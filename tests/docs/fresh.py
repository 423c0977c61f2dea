"""Fresh environments: what stands in for an index where commands of a document install packages."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.factories.released import Release


def offline(release: Release, home: Path) -> dict[str, str]:
    """Variables of a shell: this interpreter, and a pip that finds released wheels and nothing of anybody else."""
    return {
        "PATH": f"{Path(sys._base_executable).parent}:/usr/bin:/bin",  # type: ignore[attr-defined]
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "HOOKLINE__EXECUTION__CPU_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(release.wheels),
        "PIP_NO_BUILD_ISOLATION": "0",  # which switches it off: an isolated build downloads its tools
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def give_third_party(environment: Path, release: Release) -> None:
    """Let a new environment have what an index has of others: the packages of this one, and the pytest command."""
    (packages,) = environment.glob("lib/*/site-packages")
    # What venv brings for Python 3.11 is older than what torch asks for.
    for name in ("setuptools", "pkg_resources", "_distutils_hack"):
        shutil.rmtree(packages / name, ignore_errors=True)
    for found in packages.glob("setuptools-*"):
        shutil.rmtree(found)
    (packages / "distutils-precedence.pth").unlink(missing_ok=True)
    (packages / "third-party.pth").write_text(f"{release.third_party}\n")
    command = environment / "bin" / "pytest"
    command.write_text('#!/bin/sh\nexec python -m pytest -p no:cacheprovider "$@"\n')
    command.chmod(0o755)
