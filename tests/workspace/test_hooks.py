"""Hooks are documented with their exact arguments, tested, and implemented by a plugin of this repository."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookline.plugins import hookspecs
from hookline.plugins.kinds import SPEC_TYPES, hook_of
from hookline.plugins.manager import load_plugins
from hookline.plugins.names import KNOWN_PACKAGES
from hookline.plugins.registry import Registry

ROOT = Path(__file__).parents[2]
HOOKS: dict[str, Callable[..., Any]] = {
    name: value for name, value in vars(hookspecs).items() if name.startswith("hookline_") and inspect.isfunction(value)
}


@pytest.fixture(scope="module")
def shipped() -> Registry:
    return load_plugins(source_tree=[ROOT / "plugins"], strict=False)


def test_hooks_and_kinds_are_the_same() -> None:
    assert set(HOOKS) == {hook_of(kind) for kind in SPEC_TYPES}


def test_hooks_are_documented_with_their_exact_arguments() -> None:
    headings = re.findall(r"^### `(\w+)(\(.*\)) -> (.+)`$", (ROOT / "docs" / "hooks.md").read_text(), re.MULTILINE)
    documented = {name: (arguments, answer) for name, arguments, answer in headings}
    exact = {}
    for name, hook in HOOKS.items():
        signature = inspect.signature(hook)
        exact[name] = (str(signature.replace(return_annotation=inspect.Signature.empty)), signature.return_annotation)
    assert documented == exact


@pytest.mark.parametrize("name", HOOKS)
def test_hook_docstrings_state_obligations(name: str) -> None:
    text = inspect.getdoc(HOOKS[name]) or ""
    assert re.search(r"Stability: (stable|provisional)\.", text)
    assert "Runs in: " in text
    assert "May block: " in text


def test_hooks_have_tests() -> None:
    names = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert [kind for kind in SPEC_TYPES if f"test_hook_{kind}" not in names] == []


@pytest.mark.parametrize("kind", SPEC_TYPES)
def test_hooks_are_implemented(kind: str, shipped: Registry) -> None:
    assert shipped.of_kind(kind)


def test_shipped_plugins_are_sound(shipped: Registry) -> None:
    assert [str(plugin) for plugin in shipped.broken] == []
    assert shipped.problems == ()


def test_shipped_plugins_say_what_they_provide(shipped: Registry) -> None:
    for plugin in shipped.plugins:
        offered = {offer.spec.kind for offer in plugin.offers}
        assert set(plugin.info.provides) == offered, plugin.name


def test_shipped_targets_exist(shipped: Registry) -> None:
    """The module and attribute of every offer are there; found by reading, so that no optional package is needed."""
    missing = []
    for plugin in shipped.plugins:
        folder = Path(plugin.source_path or "")
        for offer in plugin.offers:
            module, _, attribute = offer.spec.target.partition(":")
            file = folder.joinpath(*module.split("."))
            source = next((path for path in (file.with_suffix(".py"), file / "__init__.py") if path.is_file()), None)
            statements = [] if source is None else ast.parse(source.read_text()).body
            names = {node.name for node in statements if isinstance(node, ast.ClassDef | ast.FunctionDef)}
            if attribute not in names:
                missing.append(f"{offer.spec.kind} '{offer.spec.name}': {offer.spec.target}")
    assert missing == []


def test_hints_name_the_packages_that_ship_the_offers(shipped: Registry) -> None:
    owners: dict[str, set[str]] = {}
    for plugin in shipped.plugins:
        for offer in plugin.offers:
            owners.setdefault(offer.spec.name, set()).add(plugin.distribution)
    assert {name: package for name, package in KNOWN_PACKAGES.items() if package not in owners.get(name, set())} == {}
