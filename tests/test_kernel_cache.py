"""Where compiled kernels are, and which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hookline.kernel_cache import compiled_kernels, use_kernel_cache


def add(folder: Path, key: str, name: str) -> None:
    """A variant as Triton writes it: its own metadata, and those of its group."""
    (folder / key).mkdir(parents=True)
    for file in (f"{name}.json", f"__grp__{name}.json", f"{name}.cubin"):
        (folder / key / file).write_text("{}")


def test_variants_are_counted_by_name(tmp_path: Path) -> None:
    assert not compiled_kernels(str(tmp_path))
    for key, name in (("A", "decode_kernel"), ("B", "decode_kernel"), ("C", "merge_kernel")):
        add(tmp_path / "triton", key, name)
    assert compiled_kernels(str(tmp_path)) == {"decode_kernel": 2, "merge_kernel": 1}


def test_without_a_folder_the_cache_is_tritons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path / "given", "A", "one")
    add(tmp_path / ".triton" / "cache", "A", "other")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "given"))
    use_kernel_cache(None)
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "given")
    assert compiled_kernels(None) == {"one": 1}
    monkeypatch.delenv("TRITON_CACHE_DIR")
    monkeypatch.setenv("TRITON_HOME", str(tmp_path))
    assert compiled_kernels(None) == {"other": 1}


def test_a_folder_is_where_triton_compiles_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "elsewhere")
    use_kernel_cache(str(tmp_path))
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton")
    add(tmp_path / "triton", "A", "one")
    assert compiled_kernels(str(tmp_path)) == {"one": 1}
