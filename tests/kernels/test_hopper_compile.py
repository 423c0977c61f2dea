"""Kernels compile for a Hopper GPU: the interpreter, which runs them in the other tests, accepts more.

Triton decides at import between interpreter and compiler, so these tests run in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU tests run what is compiled here")


@pytest.mark.parametrize("file", ["tests/kernels/compile_ops.py", "tests/attention/compile_attention.py"])
def test_kernels_compile_for_hopper(file: str) -> None:
    environ = os.environ | {"TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", file]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
