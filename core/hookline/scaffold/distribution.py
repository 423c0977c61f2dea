"""Render a new plugin's distribution and write it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from hookline._version import __version__
from hookline.errors import PluginError
from hookline.scaffold.kinds import ScaffoldKind
from hookline.scaffold.names import PluginNames

_SUFFIX = ".jinja"
#: In a template's path: the import package.
_PACKAGE = "PACKAGE"
#: Modules of the package that are no implementation.
_FRAME = ("__init__.py", "plugin.py", "options.py")
#: What a folder may hold before: a repository that was just made.
_MAY_BE_THERE = frozenset({".git"})


def render(kind: ScaffoldKind, names: PluginNames) -> dict[PurePosixPath, str]:
    """All files of the distribution, by their path in it. The same names always give the same text.

    Raises ``PluginError`` when the class name that follows from the plugin's is one that the code needs.
    """
    templates = {**_templates("common"), **_templates(kind.name)}
    environment = Environment(
        loader=DictLoader(templates),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    variables = _variables(kind, names, templates)
    rendered = {
        PurePosixPath(path.replace(_PACKAGE, names.package).removesuffix(_SUFFIX)): environment.get_template(
            path
        ).render(variables)
        for path in sorted(templates)
    }
    _check_class_name(names, rendered)
    return rendered


def write(folder: Path, rendered: Mapping[PurePosixPath, str]) -> None:
    """Write the files into a folder that is empty or not there.

    Raises ``PluginError`` when the folder holds anything or cannot be written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise PluginError(f"'{folder}' is a file; remove it, or name another folder with --directory")
        present = sorted({path.name for path in folder.iterdir()} - _MAY_BE_THERE) if folder.is_dir() else []
        if present:
            shown = ", ".join(present[:3]) + (", ..." if len(present) > 3 else "")
            raise PluginError(
                f"the folder '{folder}' is there and not empty ({shown}); nothing was written. Remove it, or name "
                "another folder with --directory"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in rendered.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as exc:
        raise PluginError(
            f"cannot write '{exc.filename or folder}': {exc.strerror or exc}; name a folder that you may write to "
            "with --directory"
        ) from exc


def _variables(kind: ScaffoldKind, names: PluginNames, templates: Mapping[str, str]) -> dict[str, Any]:
    modules = [PurePosixPath(path.removesuffix(_SUFFIX)).name for path in templates if path.startswith(f"{_PACKAGE}/")]
    return {
        "name": names.name,
        "offer": names.name,
        "plugin": names.name,
        "distribution": names.distribution,
        "package": names.package,
        "class_name": names.class_name,
        "core_version": ".".join(__version__.split(".")[:2]),
        "kind": kind.name,
        "about": kind,
        "core_extras": f"[{','.join(kind.core_extras)}]" if kind.core_extras else "",
        "implementations": sorted(name for name in modules if name.endswith(".py") and name not in _FRAME),
        "has_options": "options.py" in modules,
    }


def _templates(folder: str) -> dict[str, str]:
    """Template texts of ``templates/<folder>`` by their path in it."""
    root = files("hookline.scaffold") / "templates" / folder
    found: dict[str, str] = {}

    def collect(place: Traversable, prefix: str) -> None:
        for entry in place.iterdir():
            if entry.is_dir():
                collect(entry, f"{prefix}{entry.name}/")
            elif entry.name.endswith(_SUFFIX):
                found[prefix + entry.name] = entry.read_text(encoding="utf-8")

    collect(root, "")
    return found


def _check_class_name(names: PluginNames, rendered: Mapping[PurePosixPath, str]) -> None:
    """A plugin called "options" or "schedule-policy" would give its class the name of one that it uses."""
    for path, text in rendered.items():
        if path.suffix != ".py":
            continue
        bound = []
        for node in ast.parse(text).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                bound += [alias.asname or alias.name for alias in node.names]
            elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                bound.append(node.name)
        twice = sorted({name for name in bound if bound.count(name) > 1})
        if twice:
            raise PluginError(
                f"from the name '{names.name}' follows the class name '{twice[0]}', which {path} uses for something "
                "else; add a word to the name"
            )
