"""The public surface of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hookline

PUBLIC = ["Engine", "SamplingParams", "__version__", "hookimpl"]


def test_public_names() -> None:
    assert sorted(hookline.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(hookline, name) is not None


def test_nothing_else_is_public() -> None:
    program = "import hookline; print(sorted(n for n in vars(hookline) if not n.startswith('_')))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    # Only what Python itself leaves behind: the __future__ feature and names for type checkers.
    assert out.strip() == "['Any', 'TYPE_CHECKING', 'annotations']"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hookline' has no attribute 'Enigne'"):
        hookline.Enigne  # noqa: B018
