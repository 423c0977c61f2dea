"""The examples of docs/testkit.md are test files that pass, and each suite has one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import blocks_of
from tests.docs.generate import DOCS
from tests.docs.testkit_page import suites

ROOT = Path(__file__).parents[2]
#: Of the suites' own tests those that are quick; the whole suites run elsewhere. And all that the page adds.
QUICK = "speaks_the_contract or declares_only or has_a_summary or not Test"
ADDED = "last_token or longest_output or not_normalised"


def test_the_examples_pass(tmp_path: Path) -> None:
    examples = [block for block in blocks_of(DOCS / "testkit.md") if block.language == "python"]
    shown = {suite for block in examples for suite in re.findall(r"^class \w+\((\w+)\):", block.text, re.MULTILINE)}
    assert shown == set(suites()) - {"OfferSuite"}
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    for block in examples:
        file = tmp_path / block.title
        file.parent.mkdir(exist_ok=True)
        assert not file.exists(), f"{block.place}: a second {block.title}"
        file.write_text(block.text)
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "-k", f"{QUICK} or {ADDED}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "core"), "HOOKLINE_SOURCE_TREE": str(ROOT / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
    assert "its users want unit vectors" in answer.stdout
    assert re.search(r"\b\d{2} passed", answer.stdout), answer.stdout
