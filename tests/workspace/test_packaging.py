"""The workspace installs: members agree, wheels build, and a clean environment finds every plugin in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.factories.demo_server import RunningServer
from tests.factories.released import MEMBERS, ROOT, ReleasedEnvironment, build_wheels


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def test_every_member_is_part_of_the_workspace() -> None:
    root = project(ROOT)
    requirements = (ROOT / "requirements.txt").read_text()
    for member in MEMBERS:
        name, place = project(member)["project"]["name"], member.relative_to(ROOT)
        pin = f"{name} {{env:HOOKLINE_PIN:@ {{root:uri}}/{place}}}"
        assert pin in root["project"]["dependencies"]
        assert root["tool"]["uv"]["sources"][name] == {"workspace": True}
        assert f"-e ./{place}\n" in requirements
        assert str(place) in root["tool"]["pytest"]["ini_options"]["pythonpath"]
        assert str(place) in root["tool"]["mypy"]["mypy_path"].split(":")


@pytest.mark.parametrize("member", MEMBERS[1:], ids=lambda path: path.name)
def test_members_depend_on_core_alone(member: Path) -> None:
    """Never on the meta-distribution, which records paths that are gone, and never on another plugin."""
    dependencies = project(member)["project"]["dependencies"]
    ours = [line for line in dependencies if line.startswith("hookline")]
    assert len(ours) == 1
    assert re.fullmatch(r"hookline-core(\[(server|media)\])?~=0\.1\.0", ours[0])
    (entry,) = project(member)["project"]["entry-points"]["hookline"].items()
    assert entry == (member.name, f"hookline_{member.name}.plugin")


def test_all_members_have_the_version_of_core() -> None:
    for member in MEMBERS:
        path = (member / project(member)["tool"]["hatch"]["version"]["path"]).resolve()
        assert path == ROOT / "core" / "hookline" / "_version.py"


def test_what_is_installed_is_pinned() -> None:
    """Every direct dependency of a member, and every test tool, has a line in constraints.txt."""
    pins = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = [line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if re.match(r"\w", line)]
    for member in MEMBERS:
        table = project(member)["project"]
        wanted += table["dependencies"]
        wanted += [line for extra in table.get("optional-dependencies", {}).values() for line in extra]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in wanted}  # type: ignore[index]
    assert {name for name in names if not name.startswith("hookline")} - pins == set()


def build(folder: Path, target: Path, **environ: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        check=False,
    )
    assert answer.returncode == 0, f"{folder}: {answer.stderr}"


def metadata_of(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode()


def test_the_meta_distribution_follows_the_checkout_or_the_pin(tmp_path: Path) -> None:
    build(ROOT, tmp_path / "local")
    build(ROOT, tmp_path / "pinned", HOOKLINE_PIN="==0.1.0")
    (local,), (pinned,) = (list((tmp_path / name).iterdir()) for name in ("local", "pinned"))
    assert f"Requires-Dist: hookline-core @ {ROOT.as_uri()}/core" in metadata_of(local)
    assert "Requires-Dist: hookline-core==0.1.0" in metadata_of(pinned)
    assert "file:" not in metadata_of(pinned)


def test_wheels_of_all_members_work_in_a_clean_environment(released: ReleasedEnvironment, tmp_path: Path) -> None:
    report = json.loads(released.must("-m", "hookline", "plugins", "list", "--json", cwd=tmp_path))
    assert {(plugin["name"], plugin["status"], plugin["source"]) for plugin in report["plugins"]} == {
        (member.name, "loaded", "installed") for member in MEMBERS[1:]
    }
    assert report["problems"] == []
    hookline = [str(released.folder / "bin" / "hookline")]
    shown = subprocess.run(
        [*hookline, "plugins", "show", "attention"],
        cwd=tmp_path,
        env=released.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(released.packages) in shown.stdout
    server = RunningServer(tmp_path, program=hookline, environment=released.variables)
    try:
        body = {"model": "demo", "messages": [{"role": "user", "content": "What is 12 + 30?"}], "temperature": 0}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
        assert "42" in answer.json()["choices"][0]["message"]["content"]
    finally:
        server.close()


def test_wheels_hold_the_package_and_nothing_else(tmp_path: Path) -> None:
    for wheel in build_wheels(MEMBERS, tmp_path):
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        assert any(name.endswith("/py.typed") for name in names), wheel.name
        assert not any(name.startswith(("tests/", "training/")) for name in names), wheel.name
