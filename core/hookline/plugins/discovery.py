"""Discovery: which plugins there are, from one scan of installed metadata and from source trees.

Nothing is imported here.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from hookline.errors import PluginError

ENTRY_POINT_GROUP = "hookline"
#: Folders whose sub-folders are plugin distributions that count as installed, separated as in PATH.
SOURCE_TREE_VARIABLE = "HOOKLINE_SOURCE_TREE"

_VERSION_LINE = re.compile(r"""^__version__\s*(?::[^=]*)?=\s*["']([^"']+)["']""", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPlugin:
    """An entry point, not imported yet."""

    #: The entry point's name, which is the plugin's.
    name: str
    #: The module that the entry point names: "hookline_attention.plugin".
    module: str
    distribution: str
    version: str
    #: The folder in a source tree that must be on sys.path, or ``None`` when installed.
    source_path: str | None = None


def source_tree_from(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The folders that HOOKLINE_SOURCE_TREE names."""
    return tuple(Path(part) for part in environ.get(SOURCE_TREE_VARIABLE, "").split(os.pathsep) if part)


def find_plugins(source_tree: Iterable[Path] = ()) -> list[FoundPlugin]:
    """All plugins, sorted by name and distribution.

    A distribution in a source tree hides an installed one of the same name. Raises ``PluginError`` when a
    source tree is not a folder or one of its pyproject.toml files cannot be read.
    """
    found = [plugin for folder in source_tree for plugin in _in_source_tree(folder)]
    in_tree = {canonicalize_name(plugin.distribution) for plugin in found}
    # One scan for all: each call of entry_points() reads the metadata of every distribution again.
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry.dist is None or canonicalize_name(entry.dist.name) in in_tree:
            continue
        found.append(
            FoundPlugin(
                name=entry.name, module=entry.value, distribution=entry.dist.name, version=entry.dist.version or "0"
            )
        )
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def put_on_path(folders: Sequence[str]) -> None:
    """Put source folders first on sys.path, in their order; those that lead already stay where they are."""
    if sys.path[: len(folders)] == list(folders):
        return
    sys.path[:] = [*folders, *(path for path in sys.path if path not in folders)]


def version_of(distribution: str, source_paths: Iterable[str] = ()) -> str | None:
    """The version of a distribution in this process, source folders first; ``None`` if it is not there."""
    wanted = canonicalize_name(distribution)
    for folder in source_paths:
        project = _read_project(Path(folder) / "pyproject.toml")
        if canonicalize_name(str(project.get("name", ""))) == wanted:
            return _version(Path(folder), project)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_source_tree(tree: Path) -> list[FoundPlugin]:
    if not tree.is_dir():
        raise PluginError(
            f"{SOURCE_TREE_VARIABLE} names '{tree}', which is not a folder (working folder: {Path.cwd()})"
        )
    found = []
    for file in sorted(tree.glob("*/pyproject.toml")):
        project = _read_project(file)
        entry_points = project.get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
        for name, module in entry_points.items():
            found.append(
                FoundPlugin(
                    name=str(name),
                    module=str(module),
                    distribution=str(project.get("name", file.parent.name)),
                    version=_version(file.parent, project),
                    source_path=str(file.parent.resolve()),
                )
            )
    return found


def _read_project(file: Path) -> dict[str, Any]:
    """The [project] table, with the path of hatch's version file under the key ``_version_file``."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise PluginError(f"cannot read '{file}' of the source tree: {exc}") from exc
    project: dict[str, Any] = dict(document.get("project", {}))
    project["_version_file"] = document.get("tool", {}).get("hatch", {}).get("version", {}).get("path")
    return project


def _version(folder: Path, project: Mapping[str, Any]) -> str:
    """The static version, or the one in the file that hatch would read; "0" when neither is there."""
    if "version" in project:
        return str(project["version"])
    version_file = project["_version_file"]
    if version_file is None or not (folder / version_file).is_file():
        return "0"
    match = _VERSION_LINE.search((folder / version_file).read_text(encoding="utf-8"))
    return match.group(1) if match else "0"
