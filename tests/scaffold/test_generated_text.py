"""The text that `hookline plugins new` writes: clean, complete, and the same every time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest
import yaml

from hookline.scaffold.distribution import render, write
from hookline.scaffold.kinds import KINDS, ScaffoldKind
from hookline.scaffold.names import PluginNames

ROOT = Path(__file__).parents[2]
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def rendered(kind: ScaffoldKind) -> dict[PurePosixPath, str]:
    return render(kind, PluginNames(name=f"my-{kind.name}"))


def write_side_by_side(folder: Path) -> list[Path]:
    """The modules of all kinds; tests in folders of their own, which mypy tells apart."""
    written = []
    for kind in KINDS.values():
        for path, text in rendered(kind).items():
            if path.suffix == ".py":
                tests = f"tests_of_{kind.name.replace('-', '_')}"
                file = folder / (Path(tests, *path.parts[1:]) if path.parts[0] == "tests" else path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                written.append(file)
    return written


def run(*arguments: str, **environ: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_python_is_clean_and_formatted(tmp_path: Path) -> None:
    """By the settings of each project, and by the rules of this repository; to authors hookline is third-party."""
    for kind in KINDS.values():
        write(tmp_path / kind.name, rendered(kind))
    run("ruff", "check", "--no-cache", str(tmp_path))
    run("ruff", "format", "--check", "--no-cache", str(tmp_path))
    strict = ("--config", str(ROOT / "pyproject.toml"), "--config", f"src = ['{tmp_path}/*']")
    run("ruff", "check", "--no-cache", *strict, str(tmp_path))


def test_python_is_typed(tmp_path: Path) -> None:
    """Strictly, as the repository is; tests too."""
    files = write_side_by_side(tmp_path)
    run("mypy", *map(str, files), MYPYPATH=str(tmp_path))


@kinds
def test_the_same_name_gives_the_same_text(kind: ScaffoldKind) -> None:
    assert rendered(kind) == rendered(kind)


@kinds
def test_nothing_of_the_templates_is_left(kind: ScaffoldKind) -> None:
    for path, text in rendered(kind).items():
        # GitHub's own expressions look like Jinja's.
        rest = re.sub(r"\$\{\{[^{}]*\}\}", "", text)
        assert re.search(r"\{\{ |\{%|\{#|%\}|PACKAGE|\bjinja\b", rest) is None, path
        assert "PACKAGE" not in str(path)
        assert path.suffix != ".jinja"
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), path
        assert re.search(r"[ \t]+$", text, re.MULTILINE) is None, path


@kinds
def test_every_file_is_there(kind: ScaffoldKind) -> None:
    files = {str(path) for path in rendered(kind)}
    package = f"hookline_my_{kind.name.replace('-', '_')}"
    assert files >= {
        ".github/workflows/tests.yml",
        ".gitignore",
        "README.md",
        "hookline.toml",
        "pyproject.toml",
        "tests/test_conformance.py",
        f"{package}/__init__.py",
        f"{package}/plugin.py",
        f"{package}/py.typed",
    }


@kinds
def test_metadata_and_configuration_name_the_plugin(kind: ScaffoldKind) -> None:
    files = {str(path): text for path, text in rendered(kind).items()}
    project = tomllib.loads(files["pyproject.toml"])["project"]
    name, distribution = f"my-{kind.name}", f"hookline-my-{kind.name}"
    assert project["name"] == distribution
    assert project["entry-points"]["hookline"] == {name: f"{distribution.replace('-', '_')}.plugin"}
    assert all(re.fullmatch(r"hookline-core(\[server\])?~=0\.1\.0", line) for line in project["dependencies"])
    # A start without the plugin must fail and say so, whether or not a setting names it.
    assert distribution in tomllib.loads(files["hookline.toml"])["required_plugins"]
    workflow = yaml.safe_load(files[".github/workflows/tests.yml"])
    assert [row["core"] for row in workflow["jobs"]["test"]["strategy"]["matrix"]["include"]] == [
        "oldest",
        "latest",
        "main",
    ]


@kinds
def test_its_tests_run_every_suite_of_the_kind(kind: ScaffoldKind) -> None:
    text = rendered(kind)[PurePosixPath("tests/test_conformance.py")]
    assert [suite for suite in kind.suites if f"from {suite} import" not in text] == []
