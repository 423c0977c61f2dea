"""The Dockerfile, without Docker: its form, what it copies, and its commands in fresh environments."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.docs.fresh import give_third_party, offline
from tests.factories.demo_server import RunningServer
from tests.factories.released import MEMBERS, ROOT, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of a Dockerfile."""

    word: str
    rest: str
    stage: int


def instructions() -> list[Instruction]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[Instruction] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            stage = (found[-1].stage if found else -1) + (word == "FROM")
            found.append(Instruction(word=word, rest=rest.strip(), stage=stage))
    return found


def all_of(word: str, stage: int | None = None) -> list[str]:
    return [item.rest for item in instructions() if item.word == word and stage in (None, item.stage)]


def variables(stage: int) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in all_of("ENV", stage) for pair in shlex.split(line))


def test_both_stages_have_the_same_python() -> None:
    """The environment of the first stage works in the second only on the same interpreter."""
    bases = [line.split()[0] for line in all_of("FROM")]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    minor = re.fullmatch(r"python:3\.(\d+)-slim", bases[0])
    assert minor is not None
    assert int(minor[1]) >= 11


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert ignored[0] == "*"
    copied = [line.split()[0] for line in all_of("COPY") if not line.startswith("--from")]
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    for member in MEMBERS:
        assert any(fnmatch(str(member.relative_to(ROOT)), f"{source}*") for source in copied)


def test_runs_as_an_ordinary_user_and_serves_on_all_addresses() -> None:
    assert all_of("USER", 1) == ["1000"]
    assert all_of("EXPOSE") == [variables(1)["HOOKLINE__SERVER__PORT"]] == ["8000"]
    assert variables(1)["HOOKLINE__SERVER__HOST"] == "0.0.0.0"
    assert [json.loads(line) for word in ("ENTRYPOINT", "CMD") for line in all_of(word)] == [["hookline"], ["serve"]]


@pytest.fixture
def image(tmp_path: Path, release: Release) -> tuple[Path, dict[str, str]]:
    """The environment that the commands of the first stage make, and variables of a shell in it."""
    places = {"/src": tmp_path / "src", "/opt/hookline": tmp_path / "opt", "/wheels": tmp_path / "wheels"}
    shell = offline(release, tmp_path) | {"PIP_FIND_LINKS": "", "DEVICE": "cpu", "TORCH_CPU_INDEX": "none"}
    base = tmp_path / "base"
    subprocess.run(["python3", "-m", "venv", str(base)], env=shell, check=True)
    give_third_party(base, release)
    shell["PATH"] = f"{base}/bin:{shell['PATH']}"
    for item in instructions():
        if item.stage == 0 and item.word == "COPY":
            source, target = item.rest.split()
            copy(ROOT / source, places["/src"] / target / (source if target == "." else ""))
            if source == "constraints.txt":
                pin_what_is_here(places["/src"] / source)
        if item.stage == 0 and item.word == "RUN":
            command = re.sub(r"/(src|opt/hookline|wheels)\b", lambda match: str(places[match[0]]), item.rest)
            answer = subprocess.run(
                ["sh", "-ec", command], cwd=places["/src"], env=shell, capture_output=True, text=True, check=False
            )
            assert answer.returncode == 0, f"{item.rest}\n{answer.stdout}\n{answer.stderr}"
            if "-m venv" in command:
                give_third_party(places["/opt/hookline"], release)
    return places["/opt/hookline"], shell


def pin_what_is_here(constraints: Path) -> None:
    """There is no index here; a machine with other versions (triton's follows torch's build) tests with those."""
    here = {item.name.lower().replace("_", "-"): item.version for item in distributions()}
    lines = [line.partition("==") for line in constraints.read_text().splitlines() if "==" in line and line[0] != "#"]
    pins = [f"{name}=={here.get(name.lower().replace('_', '-'), version)}\n" for name, _, version in lines]
    constraints.write_text("".join(pins))


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy(source, target)
    else:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "training"))


def test_its_commands_make_a_server_that_its_health_check_finds_healthy(
    image: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    environment, shell = image
    settings = {name: value for name, value in variables(1).items() if name.startswith("HOOKLINE__")}
    settings["PATH"] = variables(1)["PATH"].replace("/opt/hookline", str(environment)).replace("$PATH", shell["PATH"])
    (entry,) = (json.loads(line) for line in all_of("ENTRYPOINT"))
    program = [str(environment / "bin" / entry[0])]
    server = RunningServer(tmp_path, program=program, environment=shell | settings, cwd=tmp_path)
    try:
        assert "://0.0.0.0:" not in server.url
        settings["HOOKLINE__SERVER__PORT"] = server.url.rpartition(":")[2]
        (check,) = all_of("HEALTHCHECK")
        command = json.loads(check.partition("CMD ")[2])
        assert subprocess.run(command, env=shell | settings, check=False).returncode == 0
        server.process.kill()
        server.process.wait()
        answer = subprocess.run(command, env=shell | settings, stderr=subprocess.PIPE, check=False)
        assert answer.returncode != 0
    finally:
        server.close()
