"""The generated parts of docs/hooks.md: everything that the code says of hooks, specs and interfaces."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from hookline.config.wishes import KIND_SETTINGS
from hookline.interfaces.kernels import OpSetSpec
from hookline.interfaces.spec import PluginInfo, Requirements, Spec
from hookline.layers.ops import OPS, Ops
from hookline.plugins import hookspecs
from hookline.plugins.kinds import SPEC_TYPES, hook_of
from hookline.plugins.manager import load_plugins
from hookline.plugins.registry import Registry
from hookline.plugins.targets import target_base
from hookline.scaffold.distribution import render
from hookline.scaffold.kinds import KINDS, ScaffoldKind
from hookline.scaffold.names import PluginNames
from hookline.testkit.offer_suite import OfferSuite
from tests.docs.classes import (
    constructor,
    described,
    fields_table,
    imported_for_types,
    is_described,
    member_entry,
    names_in,
)
from tests.docs.markdown import on_one_line, prose, table

ROOT = Path(__file__).parents[2]


def shared_fields() -> str:
    """What every spec, its requirements, and every plugin may say."""
    blocks = []
    for cls in (Spec, Requirements, PluginInfo):
        blocks += [f"### {cls.__name__}", prose(inspect.getdoc(cls) or ""), fields_table(cls)]
    return "\n\n".join(blocks)


def all_hooks() -> str:
    """Every hook, under the headings of hookspecs.py."""
    page = _Page()
    return "\n\n".join(block for block in page.blocks() if block)


class _Page:
    def __init__(self) -> None:
        self._shipped = load_plugins(source_tree=[ROOT / "plugins"], strict=False)
        #: Interface modules whose own words stand above.
        self._introduced: set[ModuleType] = set()
        #: Classes that are described above, and those that implement a hook: each stands under its own.
        self._described = set(filter(None, map(target_base, SPEC_TYPES.values())))

    def blocks(self) -> Iterator[str]:
        for heading, hooks in _groups().items():
            yield f"## {heading}"
            for hook in hooks:
                yield from self._hook(hook)

    def _hook(self, hook: str) -> Iterator[str]:
        function = getattr(hookspecs, hook)
        kind = hook.removeprefix("hookline_")
        spec_type = SPEC_TYPES[kind]
        signature = inspect.signature(function)
        arguments = signature.replace(return_annotation=inspect.Signature.empty)
        yield f"### `{hook}{arguments} -> {signature.return_annotation}`"
        about, facts = _obligations(function)
        yield about
        yield table(["", ""], self._facts(kind, spec_type, facts))
        yield prose(inspect.getdoc(spec_type) or "")
        yield fields_table(spec_type)
        if spec_type.known_features:
            rows = [[f"`{name}`", meaning] for name, meaning in spec_type.known_features.items()]
            yield table(["feature", "what one that declares it supports"], rows)
        yield from self._interface(kind, spec_type)
        if spec_type is OpSetSpec:
            yield "The ops, with the arguments and the answer of their references:"
            yield _ops()
        yield f"An example, from {_example_origin(kind)}:"
        yield f"```python\n{_example(kind, self._shipped)}\n```"

    def _facts(self, kind: str, spec_type: type[Spec], facts: dict[str, str]) -> Iterator[list[str]]:
        versions = str(spec_type.current_api_version)
        if spec_type.oldest_api_version != spec_type.current_api_version:
            versions += f", served from {spec_type.oldest_api_version} on"
        yield ["stability", f"{facts['Stability'].removesuffix('.')}, `api_version` {versions}"]
        yield ["runs in", facts["Runs in"]]
        yield ["may block", facts["May block"]]
        setting = KIND_SETTINGS.get(kind)
        yield ["chosen by", f"`{setting}`" if setting else "no setting: see [plugins.md](plugins.md#how-one-is-chosen)"]
        scaffold = _scaffold_of(kind)
        if scaffold is not None:
            yield ["begin one", f"`hookline plugins new NAME --kind {scaffold.name}`"]
            yield ["tested by", f"`{_suite_of(kind, scaffold)}`: [testkit.md](testkit.md)"]
        shipped: dict[str, list[str]] = {}
        for offer in self._shipped.of_kind(kind):
            shipped.setdefault(offer.distribution, []).append(f"`{offer.spec.name}`")
        yield ["shipped", "; ".join(f"{', '.join(names)} in {package}" for package, names in shipped.items())]

    def _interface(self, kind: str, spec_type: type[Spec]) -> Iterator[str]:
        """The class that a target derives from, then what its signatures mention."""
        base = target_base(spec_type)
        if base is None:
            return
        module = importlib.import_module(base.__module__)
        if module not in self._introduced:
            self._introduced.add(module)
            yield prose((inspect.getdoc(module) or "").partition("\n\n")[2])
        yield f"#### {base.__name__}"
        yield f"`{base.__module__}`, made as `{constructor(base)}`."
        yield from described(base)
        yield from self._mentioned(base)
        elsewhere = imported_for_types(module, names_in(base))
        if elsewhere:
            yield "Defined elsewhere: " + ", ".join(f"`{name}` in `{module}`" for name, module in elsewhere) + "."

    def _mentioned(self, cls: type[Any]) -> Iterator[str]:
        module = importlib.import_module(cls.__module__)
        for name in names_in(cls):
            other = vars(module).get(name)
            if not is_described(other) or other in self._described or other.__module__ != cls.__module__:
                continue
            self._described.add(other)
            yield f"#### {name}"
            yield from described(other)
            yield from self._mentioned(other)


def _groups() -> dict[str, list[str]]:
    """The hooks under each heading of hookspecs.py: "# --- scheduling ---"."""
    groups: dict[str, list[str]] = {}
    for heading, hook in re.findall(r"^# --- (.*) ---$|^def (\w+)\(", inspect.getsource(hookspecs), re.MULTILINE):
        if heading:
            groups[heading[0].upper() + heading[1:]] = []
        else:
            groups[list(groups)[-1]].append(hook)
    return groups


def _obligations(function: Any) -> tuple[str, dict[str, str]]:
    """The docstring's own words, and its closing lines "Stability: ... Runs in: ... May block: ..."."""
    about, _, closing = (inspect.getdoc(function) or "").partition("Stability: ")
    parts = re.split(r"(Stability|Runs in|May block): ", "Stability: " + closing)
    facts = {name: prose(on_one_line(text)) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return prose(about.strip()), {name: text[0].upper() + text[1:] for name, text in facts.items()}


def _ops() -> str:
    references = Ops()
    return "\n".join(member_entry(name, references.request(op)) for name, op in OPS.items())


def _scaffold_of(kind: str) -> ScaffoldKind | None:
    return next((scaffold for scaffold in KINDS.values() if kind in scaffold.offers), None)


def _suite_of(kind: str, scaffold: ScaffoldKind) -> str:
    for name in scaffold.suites:
        module = importlib.import_module(name)
        for value in vars(module).values():
            own = isinstance(value, type) and issubclass(value, OfferSuite) and value.__module__ == name
            if own and getattr(value, "kind", "") == kind:
                return f"{name}.{value.__name__}"
    raise AssertionError(f"no suite of {kind} in {', '.join(scaffold.suites)}")


def _example_origin(kind: str) -> str:
    scaffold = _scaffold_of(kind)
    if scaffold is None:
        return "a plugin of this repository"
    return f"`hookline plugins new mine --kind {scaffold.name}`"


def _example(kind: str, shipped: Registry) -> str:
    """The hook as a plugin of the scaffold implements it, or else one of ours."""
    scaffold = _scaffold_of(kind)
    if scaffold is not None:
        rendered = render(scaffold, PluginNames(name="mine"))
        source = next(text for path, text in rendered.items() if path.name == "plugin.py")
    else:
        plugin = next(offer.plugin for offer in shipped.of_kind(kind))
        source = inspect.getsource(shipped.plugin(plugin).module)
    return _function(source, hook_of(kind))


def _function(source: str, name: str) -> str:
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return "\n".join(lines[node.decorator_list[0].lineno - 1 : node.end_lineno])
    raise AssertionError(f"no function {name}")
