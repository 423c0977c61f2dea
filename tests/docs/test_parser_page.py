"""The format that docs/writing-a-parser.md writes from nothing passes the test that it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import blocks_of

ROOT = Path(__file__).parents[2]


def test_the_format_passes_its_test(tmp_path: Path) -> None:
    files = {block.title: block.text for block in blocks_of(ROOT / "docs" / "writing-a-parser.md") if block.title}
    assert set(files) == {"at_calls.py", "test_at_calls.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = os.pathsep.join([str(tmp_path), str(ROOT / "core"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_at_calls.py"],
        cwd=tmp_path,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
