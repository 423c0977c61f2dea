"""Matrix: what every offer supports and needs, as a Markdown page made of the plugins' own declarations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from hookline._version import __version__
from hookline.interfaces.api import ApiFamilySpec
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.spec import Requirements, Spec
from hookline.plugins import hookspecs
from hookline.plugins.contract import CONTRACT_VERSION, OLDEST_CONTRACT_VERSION
from hookline.plugins.kinds import SPEC_TYPES, hook_of
from hookline.plugins.registry import LoadedPlugin, Offer, Registry

_Offers = Sequence[Offer[Spec]]

_INTRODUCTION = """\
What the plugins declare of themselves; resolution decides by the same declarations. A feature that is not
marked is refused, never tried. An empty requirement means any. An op that no chosen set has is computed by
core's own reference.
"""
#: What attention backends differ in is shown even where none of them sets a bound.
_ALWAYS = {AttentionBackendSpec.kind: ("devices", "dtypes", "head_dims", "page_sizes")}
_REQUIREMENTS = {
    "devices": "devices",
    "min_capability": "compute capability",
    "dtypes": "dtypes",
    "head_dims": "head dims",
    "page_sizes": "page sizes",
    "packages": "packages",
    "programs": "programs",
    "config": "settings",
}
_ACRONYMS = {"api": "API", "lora": "LoRA"}
#: Fields of API families that have a table of their own.
_PATHS = ("paths", "admin_paths", "open_paths")


def render_matrix(registry: Registry, command: str) -> str:
    """The page; ``command`` is what it says to run when the declarations have changed."""
    blocks = [
        "# Compatibility",
        f"Made by `{command}` for hookline-core {__version__}; do not edit it.",
        _INTRODUCTION.rstrip(),
        *_plugins(registry.plugins),
    ]
    for kind, spec_type in SPEC_TYPES.items():
        offers = registry.of_kind(kind)
        if offers:
            blocks += _kind(kind, spec_type, offers)
    return "\n\n".join([*blocks, *_contract()]) + "\n"


def stability_of(kind: str) -> str:
    """ "stable" or "provisional", as the hook's docstring says."""
    text = inspect.getdoc(getattr(hookspecs, hook_of(kind))) or ""
    match = re.search(r"Stability: (\w+)\.", text)
    assert match is not None, hook_of(kind)
    return match[1]


def _plugins(plugins: Iterable[LoadedPlugin]) -> Iterator[str]:
    yield "## Plugins"
    yield _table(
        ["plugin", "distribution", "offers", "contract"],
        [
            [
                plugin.name,
                plugin.distribution,
                ", ".join(dict.fromkeys(offer.spec.kind for offer in plugin.offers)),
                str(plugin.info.api_version),
            ]
            for plugin in plugins
        ],
    )


def _kind(kind: str, spec_type: type[Spec], offers: _Offers) -> Iterator[str]:
    yield f"## {_title(kind)}"
    yield _offers_table(kind, spec_type, offers)
    if spec_type.known_features:
        yield _marks("feature", spec_type.known_features, offers, lambda spec: spec.features)
    for name in _set_fields(spec_type):
        known = {value for offer in offers for value in getattr(offer.spec, name)}
        yield _marks(
            name.removesuffix("s"), dict.fromkeys(sorted(known), ""), offers, lambda spec, n=name: getattr(spec, n)
        )
    if issubclass(spec_type, ApiFamilySpec):
        yield _paths_table(offers)


def _title(kind: str) -> str:
    first, *rest = kind.split("_")
    return " ".join([_ACRONYMS.get(first, first.capitalize()), *rest])


def _offers_table(kind: str, spec_type: type[Spec], offers: _Offers) -> str:
    shown = [
        name
        for name in _REQUIREMENTS
        if name in _ALWAYS.get(kind, ())
        or any(getattr(offer.spec.requires, name) != getattr(Requirements(), name) for offer in offers)
    ]
    own = [name for name in _own_fields(spec_type) if name not in (*_set_fields(spec_type), *_PATHS)]
    imposing = any(offer.spec.imposes for offer in offers)
    head = ["name", "plugin", "api_version", *(name.replace("_", " ") for name in own)]
    head += [*(_REQUIREMENTS[name] for name in shown), *(["imposes"] if imposing else []), "what it is"]
    rows = []
    for offer in offers:
        spec = offer.spec
        row = [f"`{spec.name}`", offer.plugin, str(spec.api_version)]
        row += [_cell(getattr(spec, name)) for name in own]
        row += [_cell(getattr(spec.requires, name), joined=".") for name in shown]
        row += [_cell(spec.imposes)] if imposing else []
        rows.append([*row, spec.summary.replace("<", "&lt;")])
    return _table(head, rows)


def _marks(what: str, known: Mapping[str, str], offers: _Offers, marked: Any) -> str:
    """A row for each known thing, a column for each offer."""
    with_meaning = any(known.values())
    return _table(
        [what, *(["meaning"] if with_meaning else []), *(f"`{offer.spec.name}`" for offer in offers)],
        [
            [
                f"`{name}`",
                *([meaning] if with_meaning else []),
                *("yes" if name in marked(offer.spec) else "" for offer in offers),
            ]
            for name, meaning in known.items()
        ],
    )


def _paths_table(offers: _Offers) -> str:
    rows = []
    for offer in offers:
        assert isinstance(offer.spec, ApiFamilySpec)
        for path in offer.spec.paths:
            needs = "the admin key" if path in offer.spec.admin_paths else "a key"
            rows.append([f"`{path}`", f"`{offer.spec.name}`", "none" if path in offer.spec.open_paths else needs])
    return _table(["path", "family", "key"], rows)


def _contract() -> Iterator[str]:
    yield "## Contract versions"
    yield (
        f"This core speaks version {CONTRACT_VERSION} of the plugin contract as a whole (`PluginInfo.api_version`; the "
        f"oldest that it serves is {OLDEST_CONTRACT_VERSION}), and of each family:"
    )
    yield _table(
        ["family", "hook", "stability", "api_version", "oldest served"],
        [
            [
                kind,
                f"`{hook_of(kind)}`",
                stability_of(kind),
                str(spec_type.current_api_version),
                str(spec_type.oldest_api_version),
            ]
            for kind, spec_type in SPEC_TYPES.items()
        ],
    )


def _own_fields(spec_type: type[Spec]) -> list[str]:
    common = {field.name for field in fields(Spec)}
    return [field.name for field in fields(spec_type) if field.name not in common]


def _set_fields(spec_type: type[Spec]) -> list[str]:
    """Fields of a kind that hold a set of names: shown with a mark for each."""
    types = {field.name: str(field.type) for field in fields(spec_type)}
    return [name for name in _own_fields(spec_type) if types[name] == "frozenset[str]"]


def _cell(value: Any, joined: str = ", ") -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, Mapping):
        return ", ".join(f"`{key}` = {_cell(item) or 'no'}" for key, item in value.items())
    if isinstance(value, tuple) and value and all(isinstance(item, int) for item in value):
        return joined.join(map(str, value))
    if isinstance(value, (frozenset, set)):
        return ", ".join(map(_cell, sorted(value)))
    if isinstance(value, (tuple, list)):
        # A name with what it stands for.
        pairs = [item for item in value if isinstance(item, tuple) and len(item) == 2]
        return "; ".join(f"`{name}`: {text}" for name, text in pairs) or ", ".join(map(_cell, value))
    return f"`{value}`" if isinstance(value, str) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
