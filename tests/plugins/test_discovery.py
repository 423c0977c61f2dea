"""Finding plugins: installed ones and source trees."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hookline.errors import PluginError
from hookline.plugins.discovery import find_plugins, put_on_path, source_tree_from, version_of
from hookline.plugins.manager import load_plugins
from tests.factories.distributions import add_to_tree, install, only


def test_installed_plugins_are_found_with_their_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = install(tmp_path, "mine", distribution="my-dist", version="2.3")
    only(monkeypatch, [tmp_path])
    (found,) = find_plugins()
    assert (found.name, found.module) == ("mine", f"{fake.package}.plugin")
    assert (found.distribution, found.version, found.source_path) == ("my-dist", "2.3", None)


def test_a_source_tree_counts_as_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    fake = add_to_tree(tmp_path, "mine", version="0.7")
    (found,) = find_plugins([tmp_path])
    assert (found.distribution, found.version) == ("fake-mine", "0.7")
    assert found.source_path == str(fake.folder.resolve())


def test_a_source_tree_hides_the_installed_distribution_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", "mine", distribution="Fake_Mine", version="1.0")
    add_to_tree(tmp_path / "tree", "mine", distribution="fake-mine", version="2.0")
    only(monkeypatch, [tmp_path / "site"])
    assert [found.version for found in find_plugins([tmp_path / "tree"])] == ["2.0"]


def test_a_static_version_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    fake = add_to_tree(tmp_path, "mine")
    project = fake.folder / "pyproject.toml"
    project.write_text(project.read_text().replace('dynamic = ["version"]', 'version = "3.1"'))
    assert find_plugins([tmp_path])[0].version == "3.1"


def test_a_folder_without_entry_point_is_no_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pyproject.toml").write_text('[project]\nname = "docs"\nversion = "1"\n')
    assert find_plugins([tmp_path]) == []


def test_a_source_tree_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"HOOKLINE_SOURCE_TREE names '.*nowhere', which is not a folder"):
        find_plugins([tmp_path / "nowhere"])


def test_a_broken_pyproject_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "pyproject.toml").write_text("[project\n")
    with pytest.raises(PluginError, match=r"bad/pyproject\.toml"):
        find_plugins([tmp_path])


def test_the_variable_may_name_several_trees() -> None:
    assert source_tree_from({"HOOKLINE_SOURCE_TREE": f"a{os.pathsep}b"}) == (Path("a"), Path("b"))
    assert source_tree_from({}) == ()


def test_source_folders_lead_the_path_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["x", "b", "y"])
    put_on_path(["a", "b"])
    put_on_path(["a", "b"])
    assert sys.path == ["a", "b", "x", "y"]


def test_versions_come_from_the_source_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "mine", distribution="fake-mine", version="1.0")
    fake = add_to_tree(tmp_path / "tree", "mine", distribution="fake-mine", version="2.0")
    only(monkeypatch, [tmp_path / "site"])
    assert version_of("fake_mine", [str(fake.folder)]) == "2.0"
    assert version_of("fake-mine") == "1.0"
    assert version_of("nothing-of-the-sort") is None


def test_metadata_is_scanned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "mine")
    only(monkeypatch, [tmp_path])
    calls = []
    scan = importlib.metadata.entry_points

    def counting(**params: Any) -> Any:
        calls.append(params)
        return scan(**params)

    monkeypatch.setattr(importlib.metadata, "entry_points", counting)
    load_plugins()
    assert calls == [{"group": "hookline"}]
