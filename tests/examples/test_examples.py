"""The worked examples are distributions like those of strangers: each has tests that pass, and a wheel that works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.factories.released import ROOT, ReleasedEnvironment, build_wheels

EXAMPLES = sorted(path.parent for path in (ROOT / "examples" / "plugins").glob("*/pyproject.toml"))

examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)


def project(example: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    return table


def bare(requirement: str) -> str:
    """ "pytest-asyncio" for "pytest_asyncio[x]>=1"."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@examples
def test_its_own_tests_pass(example: Path, tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "HOOKLINE_SOURCE_TREE": os.pathsep.join([str(ROOT / "plugins"), str(example.parent)]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "core"), str(example)]),
    }
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", str(example)],
        cwd=example,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@examples
def test_it_depends_on_core_alone(example: Path) -> None:
    """And is named as the scaffold would name it."""
    table = project(example)
    assert table["name"] == f"hookline-{example.name.replace('_', '-')}"
    (entry,) = table["entry-points"]["hookline"].items()
    assert entry[1] == f"hookline_{example.name}.plugin"
    ours = [line for line in table["dependencies"] if line.startswith("hookline")]
    assert len(ours) == 1
    assert re.fullmatch(r"hookline-core(\[server\])?~=0\.1\.0", ours[0])


def test_what_their_tests_need_is_pinned() -> None:
    """`make test` runs them in its own environment."""
    pins = {bare(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    wanted = set()
    for table in map(project, EXAMPLES):
        wanted |= set(map(bare, table["dependencies"]))
        wanted |= {bare(line) for extra in table.get("optional-dependencies", {}).values() for line in extra}
    assert {name for name in wanted if not name.startswith("hookline")} - pins == set()


def test_their_wheels_work_beside_released_ones(released: ReleasedEnvironment, tmp_path: Path) -> None:
    wheels = build_wheels(EXAMPLES, tmp_path / "wheels")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        assert any(name.endswith("/py.typed") for name in names), wheel.name
        assert not any(name.startswith("tests/") for name in names), wheel.name
    environment = released.copy(tmp_path / "venv")
    environment.install(*map(str, wheels))
    told = environment.must("-m", "hookline", "plugins", "check", "--load", cwd=tmp_path)
    assert [example.name for example in EXAMPLES if f"{project(example)['name']} " not in told] == []
