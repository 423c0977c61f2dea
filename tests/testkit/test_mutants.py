"""Every suite of the testkit fails on implementations that were broken on purpose."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
MUTANTS = sorted(Path(__file__).parent.joinpath("mutants").glob("*.py"))
LEAST = 3


def caught_by(file: Path) -> dict[str, str]:
    """Class of tests -> the test that must fail."""
    expected = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            (value,) = (
                item.value
                for item in node.body
                if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "caught_by"
            )
            expected[node.name] = str(ast.literal_eval(value))
    return expected


@pytest.mark.parametrize("file", MUTANTS, ids=lambda path: path.stem)
def test_broken_implementations_are_caught(file: Path, tmp_path: Path) -> None:
    expected = caught_by(file)
    assert len(expected) >= LEAST
    report = tmp_path / "report.xml"
    # The named tests alone, and the first example that fails as it is: making it smaller takes long.
    tests = [f"{file}::{name}::{test}" for name, test in expected.items()]
    options = ["-q", "-p", "no:cacheprovider", "--hypothesis-profile=unshrunk", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Anything else: a test of that name does not exist, or the file does not import, and nothing ran.
    assert answer.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), answer.stdout + answer.stderr
    failed: dict[str, set[str]] = {name: set() for name in expected}
    for case in ElementTree.parse(report).iter("testcase"):
        suite = case.get("classname", "").rpartition(".")[2]
        if case.find("failure") is not None or case.find("error") is not None:
            failed[suite].add(re.sub(r"\[.*", "", case.get("name", "")))
    missed = {name: sorted(failed[name]) for name, test in expected.items() if test not in failed[name]}
    assert missed == {}, "these were not caught by the test that they name"


def test_every_suite_has_mutants() -> None:
    modules = (ROOT / "core" / "hookline" / "testkit").glob("*.py")
    suites = {path.stem for path in modules if "Suite(OfferSuite" in path.read_text()}
    assert suites - {path.stem for path in MUTANTS} == set()
